//! Finds what a module contains, imports and exports, without running or compiling it.
//!
//! In: the bytes of a module to store or run. Out: `MODULE_INVALID`, or the module's kind,
//! imports and exported functions with their signatures. Must not know: the linker, the store. The
//! bytes may be hostile: nothing here recurses deeper than types may nest.

use std::borrow::Cow;

use wasmparser::{BinaryReaderError, Encoding, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use super::names::{TypeNames, at_most};
use super::signature::{self, Signatures};
use super::sizes::Sizes;
use super::translate::{LiftedAsync, Needs};
use super::{Model, features, lookup, nesting, offered, translate};
use crate::base::contain::contained;
use crate::base::error::{Code, Error, Result};
use crate::base::value::FuncType;

/// How many bytes of a signature are searched for types that have names.
pub const LONGEST_SIGNATURE: usize = 16 << 10;

const TOO_LARGE: &str = "a value of one of its types is larger than the component model allows";

/// What a module exports and imports. Plain data, `Send + Sync`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleInfo {
    pub kind: Kind,
    /// What it imports, sorted: a component's interfaces and functions by name
    /// (`wasi:cli/stdout@0.2.6`), a core module's functions as `module.name`.
    pub imports: Vec<String>,
    /// The imports without which it cannot run: all except a component's imports of types alone.
    pub wanting: Vec<String>,
    /// The functions it exports, in the module's order.
    pub exports: Vec<Export>,
    /// The names of the types in a component's exports.
    pub types: TypeNames,
    /// Whether it has a main: `_start`, or `run` of `wasi:cli/run`, version 0.2 or 0.3.
    pub main: bool,
    /// The world of a component as WIT, if it can be printed; `None` for a core module.
    pub wit: Option<String>,
}

/// Core module or component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Core,
    Component,
}

impl Kind {
    /// Returns the name of the kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Core => "core",
            Kind::Component => "component",
        }
    }
}

/// An exported function.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// The full name of the exported interface that contains it (`ns:pkg/iface@1.0.0`); `None` for a
    /// function of the component's root or of a core module.
    pub interface: Option<String>,
    pub name: String,
    pub ty: FuncType,
}

impl ModuleInfo {
    /// Returns the function with this name, by the same rules as a call. `noun` is the name of the module as the
    /// person typed it.
    ///
    /// # Errors
    /// `FUNCTION_NOT_FOUND` with similar names and their signatures, `FUNCTION_AMBIGUOUS` with the
    /// qualified names, `UNSUPPORTED_TYPE` if its signature has a type that cannot be passed.
    pub fn find(&self, noun: &str, interface: Option<&str>, function: &str) -> Result<&Export> {
        let place = lookup::find_callable(&self.exports, noun, interface, function)?;
        Ok(&self.exports[place])
    }
}

impl Export {
    /// Returns the function as WIT writes it, with its interface in front.
    pub fn signature(&self) -> String {
        lookup::Named::signature(self)
    }
}

/// Returns the binary form of a module: a binary as it is, text (`.wat`) assembled.
///
/// # Errors
/// `MODULE_INVALID`, with line and column if the text cannot be parsed.
pub fn to_binary(bytes: &[u8]) -> Result<Cow<'_, [u8]>> {
    if bytes.starts_with(b"\0asm") {
        return Ok(Cow::Borrowed(bytes));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(invalid("it is neither a binary, which begins with \\0asm, nor text"));
    };
    // The assembler may panic: unlike the validator, it is not made for hostile input.
    match contained(|| wat::parse_str(text)) {
        Some(Ok(binary)) => Ok(Cow::Owned(binary)),
        Some(Err(error)) => Err(unreadable_text(&error)),
        None => Err(invalid("the assembler failed on its text")),
    }
}

fn unreadable_text(error: &wat::Error) -> Error {
    let shown = error.to_string();
    let (sentence, rest) = shown.split_once('\n').unwrap_or((&shown, ""));
    let place = rest
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("--> "))
        .and_then(|place| place.trim().strip_prefix("<anon>:"))
        .and_then(|place| place.split_once(':'));
    let error = match place {
        Some((line, column)) => invalid(format_args!("line {line}, column {column}: {sentence}")),
        None => invalid(sentence),
    };
    let lines: Vec<&str> = rest.lines().filter(|line| !line.trim_start().starts_with("-->")).collect();
    if lines.is_empty() { error } else { error.with_context(lines.join("\n")) }
}

/// Validates a binary completely and returns what it contains.
///
/// # Errors
/// `MODULE_INVALID`, with the offset in the file if there is one. If the module needs a feature that the engine
/// does not run, the message names it.
pub fn inspect(binary: &[u8]) -> Result<ModuleInfo> {
    let (Looked { mut info, shallow }, _) = taken(binary, Bodies::Checked)?;
    if info.kind == Kind::Component && shallow {
        info.wit = wit(binary);
    }
    Ok(info)
}

/// Checks that the engine can run a binary, and returns the imports without which it cannot run. Leaves the
/// bodies of functions to the compiler, so it takes a fraction of the time of [`inspect`].
///
/// # Errors
/// Those of [`inspect`].
pub fn runnable(binary: &[u8]) -> Result<Vec<String>> {
    taken(binary, Bodies::Skipped).map(|(looked, _)| looked.info.wanting)
}

/// What the engine must know of a binary before it compiles it.
pub(crate) struct Requirements {
    /// The imports without which it cannot run.
    pub wanting: Vec<String>,
    /// What an instance needs.
    pub needs: Needs,
    pub model: Model,
    pub lifted_async: LiftedAsync,
}

/// As [`runnable`], with everything that the engine must know.
///
/// # Errors
/// As of [`inspect`].
pub(crate) fn requirements(binary: &[u8]) -> Result<Requirements> {
    taken(binary, Bodies::Skipped).map(|(_, requirements)| requirements)
}

/// Returns what a binary contains and needs, if the engine can run it.
fn taken(binary: &[u8], bodies: Bodies) -> Result<(Looked, Requirements)> {
    let (looked, model) = match look(binary, features::of_sync(), bodies) {
        Ok(looked) if looked.info.imports.iter().any(|import| offered::is_wasi_0_3(import)) => {
            (looked, Model::Async)
        }
        Ok(looked) => (looked, Model::Sync),
        Err(_) => (
            look(binary, features::ours(), bodies).map_err(|why| not_taken(binary, bodies, why))?,
            Model::Async,
        ),
    };
    match contained(|| translate::needs(binary, looked.info.kind, model)) {
        Some(Ok((needs, lifted_async))) => {
            let wanting = looked.info.wanting.clone();
            Ok((looked, Requirements { wanting, needs, model, lifted_async }))
        }
        Some(Err(why)) => Err(refused(why)),
        None => Err(refused("the engine failed on it")),
    }
}

/// Returns the error of a binary that is not valid with the features that GVM runs.
fn not_taken(binary: &[u8], bodies: Bodies, Invalid(why): Invalid) -> Error {
    match features::needed(|features| look(binary, features, bodies).is_ok()) {
        Some(needed) => refused(format_args!("it needs {needed}, which GVM does not run ({why})"))
            .with_help("build the module without the features that GVM does not run"),
        None => invalid(why),
    }
}

/// Whether to validate the bodies of functions, which takes most of the time.
#[derive(Clone, Copy, PartialEq)]
enum Bodies {
    Checked,
    Skipped,
}

/// What a valid binary contains.
struct Looked {
    /// All of it except the WIT.
    info: ModuleInfo,
    /// Whether its types stay within the depth limit.
    shallow: bool,
}

/// Why a binary is not valid.
struct Invalid(String);

impl From<BinaryReaderError> for Invalid {
    fn from(error: BinaryReaderError) -> Invalid {
        Invalid(format!("{} (at offset {:#x})", error.message(), error.offset()))
    }
}

impl From<nesting::Refused> for Invalid {
    fn from(refused: nesting::Refused) -> Invalid {
        match refused {
            nesting::Refused::TooDeep(at) => Invalid(format!("types nest too deep (at offset {at:#x})")),
            nesting::Refused::Unreadable(error) => error.into(),
        }
    }
}

fn look(binary: &[u8], features: WasmFeatures, bodies: Bodies) -> Result<Looked, Invalid> {
    contained(|| look_unguarded(binary, features, bodies))
        .unwrap_or_else(|| Err(Invalid("the validator failed on it".to_owned())))
}

fn look_unguarded(binary: &[u8], features: WasmFeatures, bodies: Bodies) -> Result<Looked, Invalid> {
    let mut validator = Validator::new_with_features(features);
    let mut kind = Kind::Core;
    let mut depth = 0;
    let (mut names, mut sizes) = (Names::default(), Sizes::default());
    let mut checked = None;
    let mut scratch = wasmparser::FuncValidatorAllocations::default();
    for payload in Parser::new(0).parse_all(binary) {
        let payload = payload?;
        check_count(&payload)?;
        if let Payload::ComponentTypeSection(section) = &payload {
            let range = section.range();
            nesting::check(binary.get(range.clone()).unwrap_or_default(), range.start)?;
        }
        match validator.payload(&payload)? {
            ValidPayload::Parser(_) if depth >= nesting::DEEPEST => {
                return Err(Invalid("components nest too deep".to_owned()));
            }
            ValidPayload::Parser(_) => depth += 1,
            ValidPayload::Func(function, body) if bodies == Bodies::Checked => {
                let mut function = function.into_validator(scratch);
                function.validate(&body)?;
                scratch = function.into_allocations();
            }
            // Nested modules end before the outermost one.
            ValidPayload::End(types) if depth == 0 => checked = Some(types),
            ValidPayload::End(_) => depth -= 1,
            ValidPayload::Func(..) | ValidPayload::Ok => {}
        }
        if let Payload::ComponentTypeSection(section) = &payload
            && validator.types(0).is_some_and(|types| !sizes.fit(types, section.count()))
        {
            return Err(Invalid(TOO_LARGE.to_owned()));
        }
        match &payload {
            Payload::Version { encoding: Encoding::Component, .. } if depth == 0 => kind = Kind::Component,
            payload if depth == 0 => names.gather(payload)?,
            _ => {}
        }
    }
    let Some(types) = checked else { return Err(Invalid("it is incomplete".to_owned())) };
    let mut signatures = Signatures::new(types.as_ref());
    let exports = match kind {
        Kind::Core => signature::core_exports(types.as_ref()),
        Kind::Component => signatures.component_exports(&names.exports),
    };
    names.imports.sort();
    names.imports.dedup();
    let wanting = match kind {
        Kind::Core => names.imports.clone(),
        Kind::Component => signatures.wanting(&names.imports),
    };
    let mut named = TypeNames::default();
    if kind == Kind::Component {
        named = TypeNames::new(signatures.named(&names.imports, &names.exports));
        let spelled = exports.iter().map(|export| at_most(LONGEST_SIGNATURE, &export.ty));
        let spelled: Vec<String> = spelled.map(|spelled| spelled.unwrap_or_else(|cut| cut)).collect();
        named.keep(spelled.iter().map(String::as_str));
    }
    let shallow = signatures.shallow(&names.imports);
    if !signatures.fit() {
        return Err(Invalid(TOO_LARGE.to_owned()));
    }
    let main = is_main(kind, &exports);
    let info = ModuleInfo { kind, types: named, main, wit: None, imports: names.imports, wanting, exports };
    Ok(Looked { info, shallow })
}

/// Refuses a section that claims more items than it has bytes: the validator makes room for all of them before it reads the first,
/// and a file of 200 bytes would take 270 MiB.
fn check_count(payload: &Payload<'_>) -> Result<(), Invalid> {
    macro_rules! claimed {
        ($($section:ident)*) => {
            match payload {
                $(Payload::$section(section) => (section.count(), section.range()),)*
                Payload::CodeSectionStart { count, range, .. } => (*count, range.clone()),
                _ => return Ok(()),
            }
        };
    }
    let (count, range) = claimed! {
        TypeSection ImportSection FunctionSection TableSection MemorySection TagSection GlobalSection
        ExportSection ElementSection DataSection InstanceSection CoreTypeSection ComponentInstanceSection
        ComponentAliasSection ComponentTypeSection ComponentCanonicalSection ComponentImportSection
        ComponentExportSection
    };
    if count as usize <= range.len() {
        return Ok(());
    }
    let (bytes, at) = (range.len(), range.start);
    Err(Invalid(format!("a section of {bytes} bytes claims to have {count} items (at offset {at:#x})")))
}

/// The names of the imports and exports of the outermost module.
#[derive(Default)]
struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Names {
    fn gather(&mut self, payload: &Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    self.imports.push(format!("{}.{}", import.module, import.name));
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    self.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    self.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_main(kind: Kind, exports: &[Export]) -> bool {
    exports.iter().any(|export| match (kind, &export.interface) {
        (Kind::Core, _) => export.name == "_start" && export.ty.params.is_empty(),
        (Kind::Component, Some(interface)) => export.name == "run" && offered::is_run(interface),
        (Kind::Component, None) => false,
    })
}

/// Returns the world of a valid component as WIT; `None` if the decoder or the printer fails. The component may
/// run all the same.
///
/// Both panic on some valid components. In 0.254: `wit_parser::decoding`'s `convert_function`, on a function that
/// is exported or imported by an interface's name (`unreachable!`); `wit_component::WitPrinter`'s
/// `print_path_to_interface`, on a type that comes from an instance with a plain name (`unwrap` of no name).
fn wit(binary: &[u8]) -> Option<String> {
    contained(|| {
        let decoded = wit_parser::decoding::decode(binary).ok()?;
        let wit_parser::decoding::DecodedWasm::Component(resolve, world) = &decoded else { return None };
        let package = resolve.worlds[*world].package?;
        let others: Vec<_> = resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != package).collect();
        let mut printer = wit_component::WitPrinter::default();
        printer.print(resolve, package, &others).ok()?;
        Some(printer.output.to_string())
    })
    .flatten()
}

fn invalid(why: impl std::fmt::Display) -> Error {
    Error::new(Code::ModuleInvalid, format!("not a valid WebAssembly module: {why}"))
}

/// Returns the error of a valid module that the engine does not run.
fn refused(why: impl std::fmt::Display) -> Error {
    Error::new(Code::ModuleInvalid, format!("the module cannot be run: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(wat: &str) -> Result<ModuleInfo> {
        inspect(&to_binary(wat.as_bytes())?)
    }

    fn signatures(info: &ModuleInfo) -> Vec<String> {
        info.exports
            .iter()
            .map(|export| {
                let interface =
                    export.interface.as_deref().map(|name| format!("{name}.")).unwrap_or_default();
                format!("{interface}{}: {}", export.name, export.ty)
            })
            .collect()
    }

    #[test]
    fn sections_that_claim_more_items_than_bytes_are_refused() {
        // An empty module with one more section: exports of a core module, types of a component.
        for (layer, section) in [([1, 0, 0, 0], 7), ([0x0d, 0, 1, 0], 7)] {
            let binary = [&b"\0asm"[..], &layer, &[section, 4, 0xaf, 0xba, 0x39, 0]].concat();
            let error = inspect(&binary).unwrap_err();
            assert_eq!(error.code(), Code::ModuleInvalid);
            assert!(error.message().contains("a section of 4 bytes claims to have 941359 items"), "{error}");
        }
    }

    #[test]
    fn core_modules() {
        let info = look(
            r#"(module
                (import "env" "log" (func (param i32)))
                (memory (export "memory") 1)
                (func (export "_start"))
                (func (export "add") (param i32 i32) (result i32) local.get 0)
                (func (export "two") (param f64) (result i64 f32) i64.const 1 f32.const 2)
                (func (export "odd") (param v128 externref)))"#,
        )
        .unwrap();
        assert_eq!(info.kind, Kind::Core);
        assert_eq!(info.imports, ["env.log"]);
        assert!(info.main);
        assert_eq!(
            signatures(&info),
            [
                "_start: func()",
                "add: func(p0: s32, p1: s32) -> s32",
                "two: func(p0: f64) -> tuple<s64, f32>",
                "odd: func(p0: v128, p1: externref)",
            ]
        );
        assert_eq!(info.exports[3].ty.unsupported(), Some("v128"));
    }

    const COMPONENT: &str = r#"(component
        (import "ns:pkg/host@1.0.0" (instance (export "now" (func (result u64)))))
        (core module $m
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "f") (param i32 i32) (result i32) unreachable)
            (func (export "run") (result i32) unreachable))
        (core instance $i (instantiate $m))
        (type $point (record (field "x" s32) (field "y" (list f32))))
        (func $f (param "name" string) (result (list u8))
            (canon lift (core func $i "f") (memory (core memory $i "memory"))
                (realloc (core func $i "realloc"))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $iface (export "greet-all" (func $f)))
        (instance $main (export "run" (func $run)))
        (export "f" (func $f))
        (export "a:b/c@0.1.0" (instance $iface))
        (export "wasi:cli/run@0.2.6" (instance $main)))"#;

    #[test]
    fn components() {
        let info = look(COMPONENT).unwrap();
        assert_eq!(info.kind, Kind::Component);
        assert_eq!(info.imports, ["ns:pkg/host@1.0.0"]);
        assert!(info.main);
        assert_eq!(
            signatures(&info),
            [
                "f: func(name: string) -> list<u8>",
                "a:b/c@0.1.0.greet-all: func(name: string) -> list<u8>",
                "wasi:cli/run@0.2.6.run: func() -> result",
            ]
        );
        assert!(info.wit.unwrap().contains("export a:b/c@0.1.0"));
    }

    /// A component with a function that takes this type and returns it.
    fn echo(definitions: &str, ty: &str) -> String {
        format!(
            r#"(component {definitions}
                (core module $m (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                    (func (export "two") (param i32 i32) (result i32) unreachable)
                    (func (export "one") (param i32) (result i32) unreachable))
                (core instance $i (instantiate $m))
                (func $f (param "x" {ty}) (result {ty}) (canon lift (core func $i "two")
                    (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
                (export "f" (func $f)))"#
        )
    }

    #[test]
    fn maps_and_fixed_length_lists() {
        let info = look(&echo("", "(map string (list f32 3))")).unwrap();
        assert_eq!(signatures(&info), ["f: func(x: map<string, list<f32, 3>>) -> map<string, list<f32, 3>>"]);
        assert_eq!(info.exports[0].ty.unsupported(), None);
        assert!(info.wit.unwrap().contains("map<string, list<f32, 3>>"));
        let info = look(&echo("", "(list (list u8 4) 2)").replace("\"two\"", "\"none\"")).err();
        assert!(info.is_some(), "the core function does not have that flat form");
    }

    #[test]
    fn a_type_larger_than_a_memory_is_refused() {
        // Each list has a million of the elements before it.
        let sizes = |count: usize| {
            let mut types = String::from("(type $t0 u8)");
            for n in 1..=count {
                types += &format!("(type $t{n} (list $t{} 1000000))", n - 1);
            }
            echo(&types, &format!("$t{count}")).replace("core func $i \"two\"", "core func $i \"one\"")
        };
        assert!(look(&sizes(1)).is_ok());
        for count in [2, 3, 20] {
            let error = look(&sizes(count)).unwrap_err();
            assert_eq!(error.code(), Code::ModuleInvalid);
            assert!(error.message().contains("larger than the component model allows"), "{error}");
        }
        // The largest types, and types one byte larger, also where no function uses them.
        for (ty, fits) in [
            ("(list u8 268435455)", true),
            ("(list u8 268435456)", false),
            ("(list u64 33554431)", true),
            ("(list u64 536870912)", false),
            ("(list string 16777215)", true),
            ("(list string 16777216)", false),
            ("(tuple (list u8 268435454) (list u8 1))", true),
            ("(tuple (list u8 268435455) (list u8 1))", false),
            ("(option (list u8 268435454))", true),
            ("(option (list u8 268435455))", false),
            ("(map u8 (list u8 268435455))", true),
            ("(list (list u8 268435455) 2)", false),
        ] {
            assert_eq!(look(&format!("(component (component (type {ty})))")).is_ok(), fits, "{ty}");
        }
        let error = look(&echo("", "(list u8 0)")).unwrap_err();
        assert_eq!(error.code(), Code::ModuleInvalid);
    }

    #[test]
    fn maps_count_twice_for_the_depth() {
        let nested = |count: usize| {
            let mut types = String::from("(type $t0 (map u8 u8))");
            for n in 1..count {
                types += &format!("(type $t{n} (map u8 $t{}))", n - 1);
            }
            look(&echo(&types, &format!("$t{}", count - 1)))
        };
        assert_eq!(nested(50).unwrap().exports[0].ty.unsupported(), None);
        assert!(nested(51).unwrap().exports[0].ty.unsupported().is_some());
    }

    #[test]
    fn invalid_bytes_are_refused() {
        for rubbish in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\x01", b"\xff\xfe", b"\x7fELF"] {
            let error = to_binary(rubbish).and_then(|binary| inspect(&binary)).unwrap_err();
            assert_eq!(error.code(), Code::ModuleInvalid, "{rubbish:?}");
        }
        let error = look("(module (func (result i32) i64.const 1))").unwrap_err();
        assert!(error.message().contains("at offset 0x"), "{error}");
        let error = look("(module\n  (func (i32.oops)))").unwrap_err();
        assert!(error.message().contains("line 2, column 10"), "{error}");
    }

    #[test]
    fn no_prefix_or_mutation_panics() {
        let binary = to_binary(COMPONENT.as_bytes()).unwrap().into_owned();
        for end in 0..binary.len() {
            let _ = inspect(&binary[..end]);
        }
        for place in 0..binary.len() {
            for flip in [1, 0x80, 0xff] {
                let mut mutant = binary.clone();
                mutant[place] ^= flip;
                let _ = inspect(&mutant);
            }
        }
    }

    #[test]
    fn deep_types_do_not_overflow() {
        let mut wat = String::from("(component (type $t0 u8)");
        for depth in 1..20_000 {
            wat += &format!("(type $t{depth} (list $t{}))", depth - 1);
        }
        wat += r#"(core module $m (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "f") (param i32 i32)))
            (core instance $i (instantiate $m))
            (func $f (param "x" $t19999) (canon lift (core func $i "f") (memory (core memory $i "memory"))
                (realloc (core func $i "realloc"))))
            (export "f" (func $f)))"#;
        match look(&wat) {
            Ok(info) => assert!(info.exports[0].ty.unsupported().is_some() && info.wit.is_none()),
            Err(error) => assert_eq!(error.code(), Code::ModuleInvalid),
        }
    }
}
