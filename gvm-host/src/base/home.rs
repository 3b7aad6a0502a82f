//! The home: one person's folder on one device, and the paths of all files in it.
//!
//! In: the path that a flag, the environment or a default chose. Out: a folder that only its owner can enter,
//! and the paths in it. Must not know: what the files contain, except for the home's id.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::durable;
use crate::base::error::{Code, Error, Result};
use crate::base::quote;

/// The home folder. Cheap to clone, `Send + Sync`; holds no open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: Arc<Path>,
    id: HomeId,
    is_confined: bool,
}

/// Identifies a home: 16 random bytes, created with the home.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HomeId(pub [u8; 16]);

impl Home {
    /// Opens a home and creates what is missing: the folder (mode 0700), the id, the folders for modules,
    /// compiled code and the nodes' sockets. Several processes may do this at the same time.
    ///
    /// # Errors
    /// `HOME_INSECURE` if other users can enter the folder, or it belongs to another user; `SYNTAX` if the path
    /// is not UTF-8; `STORAGE_FULL`, `INTERNAL`.
    pub fn open(path: impl AsRef<Path>) -> Result<Home> {
        let root = absolute(path.as_ref())?;
        make_private_folder(&root)?;
        check_private(&root)?;
        let id = read_or_make_id(&root.join("home.id"))?;
        let home = Home { root: root.into(), id, is_confined: false };
        for folder in [home.modules(), home.compiled(), home.nodes(), home.fetched(), home.shared()] {
            make_private_folder(&folder)?;
        }
        Ok(home)
    }

    /// Opens a home without creating anything. The id is zero if the home has none yet.
    ///
    /// # Errors
    /// Those of [`Home::open`]; `INTERNAL` if there is no such folder.
    pub fn existing(path: &Path) -> Result<Home> {
        let root = absolute(path)?;
        check_private(&root)?;
        let file = root.join("home.id");
        let id = if file.exists() { read_id(&file)? } else { HomeId([0; 16]) };
        Ok(Home { root: root.into(), id, is_confined: false })
    }

    /// Returns the home as a confined process sees it: one that cannot open the files that lie beside the key.
    #[must_use]
    pub fn confined(&self) -> Home {
        Home { is_confined: true, ..self.clone() }
    }

    /// Returns the path of the folder: absolute, UTF-8.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Returns the id of this home.
    pub fn id(&self) -> HomeId {
        self.id
    }

    /// Returns the path of gpmd's socket for nodes.
    pub fn gpmd_socket(&self) -> PathBuf {
        self.root.join("gpmd.sock")
    }

    /// Returns the path of gpmd's socket for commands.
    pub fn command_socket(&self) -> PathBuf {
        self.root.join("command.sock")
    }

    /// Returns the path of the record that the running gpmd writes: its process, addresses and version.
    pub fn gpmd_record(&self) -> PathBuf {
        self.public("gpmd.json")
    }

    /// Returns the path of the file that the running gpmd keeps locked.
    pub fn gpmd_lock(&self) -> PathBuf {
        self.root.join("gpmd.lock")
    }

    /// Returns the path of gpmd's log.
    pub fn gpmd_log(&self) -> PathBuf {
        self.root.join("gpmd.log")
    }

    /// Returns the path of the key that all processes of this home share; see `key.rs`.
    pub fn device_key(&self) -> PathBuf {
        self.root.join("device.key")
    }

    /// Returns the path of the index of modules.
    pub fn index(&self) -> PathBuf {
        self.public("ghost.modules.json")
    }

    /// Returns the path of the changes of the index since this revision of its file.
    pub fn index_log(&self, revision: u64) -> PathBuf {
        self.public(&format!("ghost.modules.{revision}.log"))
    }

    /// Returns the paths of all changes of the index that lie in the home.
    pub fn index_logs(&self) -> Vec<PathBuf> {
        let is_log = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("ghost.modules.") && name.ends_with(".log")
        };
        let entries = self.index().parent().and_then(|folder| fs::read_dir(folder).ok());
        entries.into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_log).collect()
    }

    /// Returns the path of a file that nodes read.
    fn public(&self, name: &str) -> PathBuf {
        match self.is_confined {
            true => self.shared().join(name),
            false => self.root.join(name),
        }
    }

    /// Returns the path of the folder where gpmd also places the files that confined processes read.
    pub fn shared(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// Returns the path of the file that says which devices belong to the network of this home's device.
    pub fn roster(&self) -> PathBuf {
        self.public("ghost.network.json")
    }

    /// Returns the path of the file with the name and the port of this home's device.
    pub fn device(&self) -> PathBuf {
        self.root.join("ghost.device.json")
    }

    /// Returns the path of the file of open invitations.
    pub fn invitations(&self) -> PathBuf {
        self.root.join("ghost.invitations.json")
    }

    /// Returns the path of the file with the addresses at which other devices were reached.
    pub fn addresses(&self) -> PathBuf {
        self.root.join("ghost.addresses.json")
    }

    /// Returns the path of the socket at which confined nodes ask gpmd to connect to other devices.
    pub fn dial_socket(&self) -> PathBuf {
        self.root.join("dial.sock")
    }

    /// Returns the path of the socket at which processes of this device ask gpmd for tunnels to other devices.
    pub fn tunnel_socket(&self) -> PathBuf {
        self.root.join("tunnel.sock")
    }

    /// Returns the path of the folder of module files, `<sha256>.wasm`.
    pub fn modules(&self) -> PathBuf {
        self.root.join("modules")
    }

    /// Returns the path of the module with this hash.
    pub fn module(&self, hash: crate::base::id::Hash) -> PathBuf {
        self.modules().join(format!("{hash}.wasm"))
    }

    /// Returns the path of the folder of modules that other devices have sent, `<sha256>.wasm`. gpmd bounds its size.
    pub fn fetched(&self) -> PathBuf {
        self.root.join("fetched")
    }

    /// Returns the path of such a module.
    pub fn fetched_module(&self, hash: crate::base::id::Hash) -> PathBuf {
        self.fetched().join(format!("{hash}.wasm"))
    }

    /// Returns the path of the folder of compiled code.
    pub fn compiled(&self) -> PathBuf {
        self.root.join("compiled")
    }

    /// Returns the path of the folder that remembers the hashes of module files outside the home. It is created with its
    /// first entry.
    pub fn known(&self) -> PathBuf {
        self.root.join("known")
    }

    /// Returns the path of the folder with the keys and values that modules keep.
    pub fn keyvalue(&self) -> PathBuf {
        self.root.join("keyvalue")
    }

    /// Returns the path of the folder of the nodes' sockets.
    pub fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }

    /// Returns the path of a node's socket. Each incarnation of a node has its own.
    pub fn node_socket(&self, id: uuid::Uuid, incarnation: u64) -> PathBuf {
        let (short, _, _, _) = id.as_fields();
        self.nodes().join(format!("{short:08x}-{incarnation:016x}.sock"))
    }

    /// Returns the path of the history of the REPL.
    pub fn history(&self) -> PathBuf {
        self.root.join("history")
    }
}

impl fmt::Display for HomeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for HomeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    let root = std::path::absolute(path).map_err(|error| {
        Error::io(format_args!("cannot resolve the path `{}` of the home", path.display()), error)
    })?;
    if root.to_str().is_none() {
        return Err(Error::new(
            Code::Syntax,
            format!("the path `{}` of the home is not UTF-8", root.display()),
        )
        .with_help("choose another home with `--home` or `GHOST_HOME`"));
    }
    Ok(root)
}

fn make_private_folder(path: &Path) -> Result<()> {
    let fail = |error| Error::io(format_args!("cannot create the folder `{}`", path.display()), error);
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).map_err(fail)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(fail(error)),
        _ => Ok(()),
    }
}

fn check_private(path: &Path) -> Result<()> {
    let meta = fs::metadata(path)
        .map_err(|error| Error::io(format_args!("cannot read `{}`", path.display()), error))?;
    let insecure = |what: String| Error::new(Code::HomeInsecure, what);
    if !meta.is_dir() {
        return Err(insecure(format!("`{}` is not a folder", path.display()))
            .with_help("choose another home with `--home` or `GHOST_HOME`"));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(insecure(format!("`{}` belongs to another user", path.display()))
            .with_help("choose a home of your own with `--home` or `GHOST_HOME`"));
    }
    if meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o777;
        let path_and_mode = format!("`{}` (mode {mode:03o})", path.display());
        return Err(insecure(format!(
            "other users can enter {path_and_mode}; anyone who can enter the home can act as you"
        ))
        .with_command(format!("chmod 700 {}", quote::path(path))));
    }
    Ok(())
}

fn read_or_make_id(path: &Path) -> Result<HomeId> {
    if !path.exists() {
        let fresh = HomeId(*uuid::Uuid::new_v4().as_bytes());
        durable::write_new(path, format!("{fresh}\n").as_bytes())?;
    }
    read_id(path)
}

fn read_id(path: &Path) -> Result<HomeId> {
    let text = durable::read_text(path)
        .map_err(|error| Error::io(format_args!("cannot read `{}`", path.display()), error))?;
    match uuid::Uuid::try_parse(text.trim()) {
        Ok(id) => Ok(HomeId(*id.as_bytes())),
        Err(_) => Err(Error::internal(format!(
            "`{}` does not contain 32 hexadecimal digits",
            path.display()
        ))
        .with_help(
            "stop gpmd and the nodes of this home, then remove the file; the next start creates a new one",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn is_made_private_and_keeps_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/home");
        let home = Home::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(home.modules()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(Home::open(&path).unwrap().id(), home.id());
        assert_ne!(Home::open(folder.path().join("c")).unwrap().id(), home.id());
    }

    #[test]
    fn refuses_a_home_that_other_users_can_enter() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let error = Home::open(folder.path()).unwrap_err();
        assert_eq!(error.code(), Code::HomeInsecure);
        assert!(error.message().contains("other users can enter"), "{error}");
        assert!(error.command().unwrap().starts_with("chmod 700 "), "{error}");
        assert!(!folder.path().join("home.id").exists());
    }

    #[test]
    fn a_broken_id_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home");
        Home::open(&path).unwrap();
        fs::write(path.join("home.id"), "nonsense").unwrap();
        assert_eq!(Home::open(&path).unwrap_err().code(), Code::Internal);
    }
}
