//! Names for addresses of the kernel, from its debug information.

use std::path::Path;

use addr2line::Loader;

use crate::image;

/// The functions at an address, innermost first, as `function at file:line`.
///
/// Nothing is an error: an address without a name is a number still.
pub fn names(image: &Path, address: u64) -> Vec<String> {
    let Ok(loader) = Loader::new(image) else { return Vec::new() };
    let root = image::workspace();
    let root = root.to_string_lossy();
    let Ok(mut frames) = loader.find_frames(address) else { return Vec::new() };
    let mut names = Vec::new();
    while let Ok(Some(frame)) = frames.next() {
        let function = frame.function.as_ref().and_then(|function| function.demangle().ok());
        let function = function.map_or_else(|| "?".to_owned(), |name| without_hash(&name));
        let place = frame.location.and_then(|location| {
            let file = location.file?.trim_start_matches(root.as_ref()).trim_start_matches('/');
            Some(format!(" at {file}:{}", location.line.unwrap_or(0)))
        });
        names.push(function + &place.unwrap_or_default());
    }
    if names.is_empty() {
        names.extend(loader.find_symbol(address).map(|symbol| {
            let name = addr2line::demangle_auto(symbol.into(), None);
            without_hash(&name)
        }));
    }
    names
}

fn without_hash(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 => path.to_owned(),
        _ => name.to_owned(),
    }
}
