//! Golden tests of translation, and the manifests of the workshops.

mod workshops;
