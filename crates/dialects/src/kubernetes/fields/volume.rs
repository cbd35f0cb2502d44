//! Fields of a volume.

use serde_json::Value;

use super::kinds::{FieldRef, Mode, ResourceRef};
use crate::schema::{Bounded, Quantity, fields};

fields! {
    kubernetes;
    /// Files that containers share.
    pub struct Volume "a volume" {
        /// Its name, for mounts.
        required name: String,
        /// An empty directory.
        honoured empty_dir "emptyDir": Option<EmptyDir>,
        /// Files from a `ConfigMap`.
        honoured config_map "configMap": Option<ConfigMapVolume>,
        /// Files from a `Secret`.
        honoured secret: Option<SecretVolume>,
        /// Files that tell of the pod.
        honoured downward_api "downwardAPI": Option<DownwardVolume>,
        /// Files from several of these.
        honoured projected: Option<ProjectedVolume>,
        /// A path of the host.
        stand_in host_path "hostPath": Value,
        /// A claim.
        honoured persistent_volume_claim "persistentVolumeClaim": Option<ClaimVolume>,
        /// A claim of the pod's own.
        stand_in ephemeral: Value,
        /// A driver's.
        stand_in csi: Value,
        /// NFS.
        stand_in nfs: Value,
        /// iSCSI.
        stand_in iscsi: Value,
        /// Fibre Channel.
        stand_in fc: Value,
        /// An image.
        stand_in image: Value,
        /// A Git repository.
        stand_in git_repo "gitRepo": Value,
        /// A disk of AWS.
        stand_in aws_elastic_block_store "awsElasticBlockStore": Value,
        /// A disk of Azure.
        stand_in azure_disk "azureDisk": Value,
        /// Files of Azure.
        stand_in azure_file "azureFile": Value,
        /// Ceph's files.
        stand_in cephfs: Value,
        /// OpenStack's.
        stand_in cinder: Value,
        /// A driver's.
        stand_in flex_volume "flexVolume": Value,
        /// Flocker's.
        stand_in flocker: Value,
        /// A disk of Google's.
        stand_in gce_persistent_disk "gcePersistentDisk": Value,
        /// Gluster's.
        stand_in glusterfs: Value,
        /// Photon's.
        stand_in photon_persistent_disk "photonPersistentDisk": Value,
        /// Portworx'.
        stand_in portworx_volume "portworxVolume": Value,
        /// Quobyte's.
        stand_in quobyte: Value,
        /// Ceph's blocks.
        stand_in rbd: Value,
        /// ScaleIO's.
        stand_in scale_io "scaleIO": Value,
        /// StorageOS'.
        stand_in storageos: Value,
        /// vSphere's.
        stand_in vsphere_volume "vsphereVolume": Value,
    }

    /// An empty directory.
    pub struct EmptyDir "emptyDir" {
        /// Where it is: `Memory`, or the disk.
        honoured medium: String,
        /// How much fits into it.
        honoured size_limit "sizeLimit": Option<Quantity>,
    }

    /// The files of a claim.
    pub struct ClaimVolume "persistentVolumeClaim" {
        /// The claim, by its name in the pod's namespace.
        required claim_name "claimName": String,
        /// Whether they can only be read.
        honoured read_only "readOnly": bool,
    }

    /// Which key becomes which file.
    pub struct KeyToPath "an item" {
        /// The key.
        required key: String,
        /// The file's path in the volume.
        required path: String,
        /// The file's mode.
        honoured mode: Option<Mode>,
    }

    /// Files from a `ConfigMap`.
    pub struct ConfigMapVolume "configMap" {
        /// Its name.
        honoured name: String,
        /// Its keys; none: all of them.
        honoured items: Vec<KeyToPath>,
        /// The files' mode, as a decimal number; that is 0644.
        honoured default_mode "defaultMode": Mode = Bounded(0o644),
        /// Whether it may be absent.
        honoured optional: bool,
    }

    /// Files from a `Secret`.
    pub struct SecretVolume "secret" {
        /// Its name.
        honoured secret_name "secretName": String,
        /// Its keys; none: all of them.
        honoured items: Vec<KeyToPath>,
        /// The files' mode, as a decimal number; that is 0644.
        honoured default_mode "defaultMode": Mode = Bounded(0o644),
        /// Whether it may be absent.
        honoured optional: bool,
    }

    /// Files that tell of the pod.
    pub struct DownwardVolume "downwardAPI" {
        /// The files.
        honoured items: Vec<DownwardItem>,
        /// The files' mode, as a decimal number; that is 0644.
        honoured default_mode "defaultMode": Mode = Bounded(0o644),
    }

    /// A file that tells of the pod.
    pub struct DownwardItem "an item" {
        /// The file's path in the volume.
        required path: String,
        /// A field of the pod.
        honoured field_ref "fieldRef": Option<FieldRef>,
        /// What a container may take.
        honoured resource_field_ref "resourceFieldRef": Option<ResourceRef>,
        /// The file's mode.
        honoured mode: Option<Mode>,
    }

    /// Files from several sources.
    pub struct ProjectedVolume "projected" {
        /// The sources.
        honoured sources: Vec<ProjectedSource>,
        /// The files' mode, as a decimal number; that is 0644.
        honoured default_mode "defaultMode": Mode = Bounded(0o644),
    }

    /// A source of files.
    pub struct ProjectedSource "a source" {
        /// A `ConfigMap`.
        honoured config_map "configMap": Option<ProjectedObject>,
        /// A `Secret`.
        honoured secret: Option<ProjectedObject>,
        /// What tells of the pod.
        honoured downward_api "downwardAPI": Option<ProjectedDownward>,
        /// A token of the pod's service account.
        honoured service_account_token "serviceAccountToken": Option<ProjectedToken>,
        /// Certificates that are trusted.
        not_here("its file is not there") cluster_trust_bundle "clusterTrustBundle": Value,
        /// A certificate of the pod.
        not_here("its file is not there") pod_certificate "podCertificate": Value,
    }

    /// A token as a source of a file.
    pub struct ProjectedToken "the source" {
        /// For whom it is; the API if it is left out.
        honoured audience: String,
        /// How long it is valid, in seconds, from ten minutes to a day; an hour if it is left out. It is
        /// renewed in time.
        honoured expiration_seconds "expirationSeconds": Option<i64>,
        /// Its file.
        honoured path: String,
    }

    /// An object as a source of files.
    pub struct ProjectedObject "the source" {
        /// Its name.
        honoured name: String,
        /// Its keys; none: all of them.
        honoured items: Vec<KeyToPath>,
        /// Whether it may be absent.
        honoured optional: bool,
    }

    /// What tells of the pod, as a source of files.
    pub struct ProjectedDownward "the source" {
        /// The files.
        honoured items: Vec<DownwardItem>,
    }
}
