//! Ingresses, of which IngressClasses and MeshConfig say whether the mesh serves them.

use std::collections::BTreeMap;

use ironmesh_model::settings::IngressControl;
use ironmesh_model::snapshot::Edit;
use ironmesh_model::{Finding, FindingCode, Name};

use crate::kubernetes::{IngressClasses, IngressPart};

/// The Ingresses of a mesh, by the names of their objects.
#[derive(Debug)]
pub(super) struct Ingresses<K> {
    parts: BTreeMap<K, IngressPart>,
    classes: IngressClasses,
    /// What each object says of a class. Of several of one name the first counts.
    said: BTreeMap<Name, BTreeMap<K, Name>>,
    /// The class that an object is.
    saying: BTreeMap<K, Name>,
    control: IngressControl,
}

impl<K: Ord + Clone> Ingresses<K> {
    pub(super) fn new(control: IngressControl) -> Self {
        Self {
            parts: BTreeMap::new(),
            classes: IngressClasses::default(),
            said: BTreeMap::new(),
            saying: BTreeMap::new(),
            control,
        }
    }

    pub(super) fn put(&mut self, key: K, part: IngressPart) -> Vec<Edit> {
        let edits = self.made(&part);
        self.parts.insert(key, part);
        edits.into()
    }

    pub(super) fn take(&mut self, key: &K) {
        self.parts.remove(key);
    }

    /// MeshConfig says this.
    pub(super) fn set_control(&mut self, control: &IngressControl) -> Vec<Edit> {
        if self.control == *control {
            return Vec::new();
        }
        self.control = control.clone();
        self.parts.values().flat_map(|part| self.made(part)).collect()
    }

    /// An IngressClass is this.
    pub(super) fn put_class(&mut self, key: K, name: Name, controller: Name) -> Vec<Edit> {
        let mut edits = match self.saying.get(&key) {
            Some(before) if *before != name => self.take_class(&key),
            _ => Vec::new(),
        };
        self.saying.insert(key.clone(), name.clone());
        self.said.entry(name.clone()).or_default().insert(key, controller);
        edits.extend(self.settle(&name));
        edits
    }

    /// It is gone.
    pub(super) fn take_class(&mut self, key: &K) -> Vec<Edit> {
        let Some(name) = self.saying.remove(key) else { return Vec::new() };
        if let Some(all) = self.said.get_mut(&name) {
            all.remove(key);
        }
        self.settle(&name)
    }

    /// Lets a class be what its objects say, and looks again at its Ingresses.
    fn settle(&mut self, name: &Name) -> Vec<Edit> {
        let controller = self.said.get(name).and_then(|all| all.values().next()).cloned();
        if controller.is_none() {
            self.said.remove(name);
        }
        self.classes.set(name, controller);
        let parts = self.parts.values().filter(|part| part.class.is_named(name));
        parts.flat_map(|part| self.made(part)).collect()
    }

    /// What an Ingress is in the model.
    fn made(&self, part: &IngressPart) -> [Edit; 3] {
        let IngressPart { gateway, route, class, found } = part;
        let id = gateway.id.clone();
        let (gateway, route, found) = match self.classes.refusal(class, &self.control) {
            None => {
                let mut gateway = gateway.clone();
                let label = self.control.gateway_label();
                gateway.selector = [("istio", &**label)].into_iter().collect();
                (Some(gateway.into()), Some(route.clone().into()), found.clone())
            }
            Some(why) => {
                let found = Finding::new(&id, class.place(), FindingCode::NothingServes, why);
                (None, None, vec![found])
            }
        };
        let (of_gateway, of_route) = (id.clone(), id.clone());
        [Edit::Gateway(of_gateway, gateway), Edit::Route(of_route, route), Edit::Found(id, found)]
    }
}
