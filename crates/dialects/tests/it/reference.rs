//! The reference page is what the tables say. With `UPDATE=1` in the environment it is written anew.

use std::path::Path;

use ironmesh_dialects::kinds::reference;

#[test]
fn the_reference_page_is_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kinds.md");
    let page = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == page, "{} is not as the tables are (UPDATE=1 writes it)", path.display());
}
