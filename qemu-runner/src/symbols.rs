//! Names for addresses of the kernel, from its debug information.

use std::path::{Component, Path, PathBuf};

use addr2line::Loader;

use crate::image;

/// The functions of ours at an address, innermost first, as `function at file:line`. Where there
/// are none, the innermost function of anybody's.
///
/// Nothing is an error: an address without a name is a number still.
pub fn names(image: &Path, address: u64) -> Vec<String> {
    let Ok(loader) = Loader::new(image) else { return Vec::new() };
    let Ok(root) = image::workspace() else { return Vec::new() };
    let Ok(mut frames) = loader.find_frames(address) else { return Vec::new() };
    let (mut ours, mut innermost) = (Vec::new(), None);
    while let Ok(Some(frame)) = frames.next() {
        let function = frame.function.as_ref().and_then(|function| function.demangle().ok());
        let function = function.map_or_else(|| "?".to_owned(), |name| without_hash(&name));
        let location = frame.location.as_ref();
        let file = location.and_then(|location| Some(straightened(location.file?)));
        let file = file.as_deref().and_then(|file| file.strip_prefix(&root).ok());
        if let (Some(file), Some(location)) = (file, location) {
            let line = location.line.unwrap_or(0);
            ours.push(format!("{function} at {}:{line}", file.display()));
        }
        innermost.get_or_insert(function);
    }
    if ours.is_empty() {
        let symbol = || loader.find_symbol(address).map(|symbol| without_hash(&demangled(symbol)));
        ours.extend(innermost.or_else(symbol));
    }
    ours
}

/// A path without `..`: scenario files are collected by a way through the build's output.
fn straightened(path: &str) -> PathBuf {
    let mut straight = PathBuf::new();
    for component in Path::new(path).components() {
        if component == Component::ParentDir {
            straight.pop();
        } else {
            straight.push(component);
        }
    }
    straight
}

/// The functions at the address that a message says an instruction has: `rip 0x..`.
pub fn names_in(image: &Path, message: &str) -> Vec<String> {
    let hexadecimal = message.split("rip 0x").nth(1);
    let digits = hexadecimal.and_then(|rest| rest.split(|c: char| !c.is_ascii_hexdigit()).next());
    let address = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    address.map_or_else(Vec::new, |address| names(image, address))
}

fn demangled(symbol: &str) -> String {
    addr2line::demangle_auto(symbol.into(), None).into_owned()
}

fn without_hash(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 => path.to_owned(),
        _ => name.to_owned(),
    }
}
