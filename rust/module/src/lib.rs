//! What MakeMaker links: all layers in one static library, with the way in that
//! the C boundary looks for.

use perlxs::sys::Table;

/// The table that the boot function installs.
#[no_mangle]
pub extern "C" fn plx_table_of_module() -> *const Table {
    &package::TABLE
}
