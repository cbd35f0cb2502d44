//! Fields of a volume.

use ironmesh_model::FindingCode;

use super::container::{FIELD_REF, RESOURCE_REF};
use super::{MODE, not_here};
use crate::schema::{Field, Message, Type, found, honoured, required};

/// A kind of volume that is not served.
const fn stand_in(kind: &'static str) -> Field {
    found(kind, Type::Any, FindingCode::VolumeNotHonoured, "an empty directory stands in for it")
}

pub(super) static VOLUME: Message = Message {
    name: "a volume",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        required("name", Type::Text),
        honoured("emptyDir", Type::Object(&EMPTY_DIR)),
        honoured("configMap", Type::Object(&CONFIG_MAP)),
        honoured("secret", Type::Object(&SECRET)),
        honoured("downwardAPI", Type::Object(&DOWNWARD)),
        honoured("projected", Type::Object(&PROJECTED)),
        stand_in("hostPath"),
        stand_in("persistentVolumeClaim"),
        stand_in("ephemeral"),
        stand_in("csi"),
        stand_in("nfs"),
        stand_in("iscsi"),
        stand_in("fc"),
        stand_in("image"),
        stand_in("gitRepo"),
        stand_in("awsElasticBlockStore"),
        stand_in("azureDisk"),
        stand_in("azureFile"),
        stand_in("cephfs"),
        stand_in("cinder"),
        stand_in("flexVolume"),
        stand_in("flocker"),
        stand_in("gcePersistentDisk"),
        stand_in("glusterfs"),
        stand_in("photonPersistentDisk"),
        stand_in("portworxVolume"),
        stand_in("quobyte"),
        stand_in("rbd"),
        stand_in("scaleIO"),
        stand_in("storageos"),
        stand_in("vsphereVolume"),
    ],
};

static EMPTY_DIR: Message = Message {
    name: "emptyDir",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[honoured("medium", Type::Text), honoured("sizeLimit", Type::Quantity)],
};

const KEYS_TO_PATHS: Type = Type::List(&Type::Object(&KEY_TO_PATH));
const ITEMS: Field = honoured("items", KEYS_TO_PATHS);
const DEFAULT_MODE: Field = honoured("defaultMode", MODE);
const OPTIONAL: Field = honoured("optional", Type::Bool);
const NAME: Field = honoured("name", Type::Text);

static KEY_TO_PATH: Message = Message {
    name: "an item",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[required("key", Type::Text), required("path", Type::Text), honoured("mode", MODE)],
};

static CONFIG_MAP: Message = Message {
    name: "configMap",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[NAME, ITEMS, DEFAULT_MODE, OPTIONAL],
};

static SECRET: Message = Message {
    name: "secret",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[honoured("secretName", Type::Text), ITEMS, DEFAULT_MODE, OPTIONAL],
};

static DOWNWARD: Message = Message {
    name: "downwardAPI",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[DOWNWARD_ITEMS, DEFAULT_MODE],
};

const DOWNWARD_LIST: Type = Type::List(&Type::Object(&DOWNWARD_ITEM));
const DOWNWARD_ITEMS: Field = honoured("items", DOWNWARD_LIST);

static DOWNWARD_ITEM: Message = Message {
    name: "an item",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        required("path", Type::Text),
        honoured("fieldRef", Type::Object(&FIELD_REF)),
        honoured("resourceFieldRef", Type::Object(&RESOURCE_REF)),
        honoured("mode", MODE),
    ],
};

static PROJECTED: Message = Message {
    name: "projected",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[honoured("sources", Type::List(&Type::Object(&SOURCE))), DEFAULT_MODE],
};

static SOURCE: Message = Message {
    name: "a source",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("configMap", Type::Object(&PROJECTED_OBJECT)),
        honoured("secret", Type::Object(&PROJECTED_OBJECT)),
        honoured("downwardAPI", Type::Object(&PROJECTED_DOWNWARD)),
        not_here("serviceAccountToken", Type::Any, "no token is made, and its file is not there"),
        not_here("clusterTrustBundle", Type::Any, "its file is not there"),
        not_here("podCertificate", Type::Any, "its file is not there"),
    ],
};

static PROJECTED_OBJECT: Message = Message {
    name: "the source",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[NAME, ITEMS, OPTIONAL],
};

static PROJECTED_DOWNWARD: Message = Message {
    name: "the source",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[DOWNWARD_ITEMS],
};
