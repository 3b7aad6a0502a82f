//! The home: one person's folder on one device, and where everything stands in it.
//!
//! In: the path that a flag, the environment or a default chose. Out: a folder that is ours alone,
//! and the paths in it. Must not know: what the files hold, but for the home's own id.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::durable;
use crate::base::error::{Code, Error, Result};
use crate::base::quote;

/// The home folder. Cheap to clone; holds no open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: Arc<Path>,
    id: HomeId,
}

/// What tells one home from another: 16 random bytes, made when the home is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HomeId(pub [u8; 16]);

impl Home {
    /// Opens a home, making it where there is none: folder 0700, id, folders for modules, compiled
    /// code and the nodes' sockets. Safe to do in several processes at once.
    ///
    /// # Errors
    /// `HOME_INSECURE` where others may read or write it, or it is another user's; `SYNTAX` where
    /// the path is not UTF-8; `STORAGE_FULL`, `INTERNAL`.
    pub fn open(path: impl AsRef<Path>) -> Result<Home> {
        let root = absolute(path.as_ref())?;
        make_private_folder(&root)?;
        check_private(&root)?;
        let id = read_or_make_id(&root.join("home.id"))?;
        let home = Home { root: root.into(), id };
        for folder in [home.modules(), home.compiled(), home.nodes()] {
            make_private_folder(&folder)?;
        }
        Ok(home)
    }

    /// A home as it stands, without making anything in it; of no id where it has none yet.
    ///
    /// # Errors
    /// As of [`Home::open`]; `INTERNAL` where there is no such folder.
    pub fn existing(path: &Path) -> Result<Home> {
        let root = absolute(path)?;
        check_private(&root)?;
        let file = root.join("home.id");
        let id = if file.exists() { read_id(&file)? } else { HomeId([0; 16]) };
        Ok(Home { root: root.into(), id })
    }

    /// The folder itself, absolute, UTF-8.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// What tells this home from another.
    pub fn id(&self) -> HomeId {
        self.id
    }

    /// gpmd's socket for nodes.
    pub fn gpmd_socket(&self) -> PathBuf {
        self.root.join("gpmd.sock")
    }

    /// gpmd's socket for commands.
    pub fn command_socket(&self) -> PathBuf {
        self.root.join("command.sock")
    }

    /// What the running gpmd says of itself.
    pub fn gpmd_record(&self) -> PathBuf {
        self.root.join("gpmd.json")
    }

    /// Locked by the gpmd that runs, for as long as it runs.
    pub fn gpmd_lock(&self) -> PathBuf {
        self.root.join("gpmd.lock")
    }

    /// gpmd's log.
    pub fn gpmd_log(&self) -> PathBuf {
        self.root.join("gpmd.log")
    }

    /// The key that makes a process one of this home; see `key.rs`.
    pub fn device_key(&self) -> PathBuf {
        self.root.join("device.key")
    }

    /// The index of modules.
    pub fn index(&self) -> PathBuf {
        self.root.join("ghost.modules.json")
    }

    /// The folder of module files, `<sha256>.wasm`.
    pub fn modules(&self) -> PathBuf {
        self.root.join("modules")
    }

    /// The file of the module with this hash.
    pub fn module(&self, hash: crate::base::id::Hash) -> PathBuf {
        self.modules().join(format!("{hash}.wasm"))
    }

    /// The folder of compiled code.
    pub fn compiled(&self) -> PathBuf {
        self.root.join("compiled")
    }

    /// The folder of the nodes' sockets.
    pub fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }

    /// The socket of one life of a node; no two lives share one.
    pub fn node_socket(&self, id: uuid::Uuid, incarnation: u64) -> PathBuf {
        let (short, _, _, _) = id.as_fields();
        self.nodes().join(format!("{short:08x}-{incarnation:016x}.sock"))
    }

    /// What was typed in the REPL.
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
    let root = std::path::absolute(path)
        .map_err(|error| Error::io(format_args!("no home at {}", path.display()), error))?;
    if root.to_str().is_none() {
        return Err(Error::new(
            Code::Syntax,
            format!("the home's path {} is not UTF-8: choose another with --home", root.display()),
        ));
    }
    Ok(root)
}

fn make_private_folder(path: &Path) -> Result<()> {
    let fail = |error| Error::io(format_args!("cannot make {}", path.display()), error);
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
        .map_err(|error| Error::io(format_args!("cannot read {}", path.display()), error))?;
    let insecure = |why: &str| {
        Error::new(Code::HomeInsecure, format!("{why}; anyone who can enter the home can act as you"))
            .with_command(format!("chmod 700 {}", quote::path(path)))
    };
    if !meta.is_dir() {
        return Err(Error::new(
            Code::HomeInsecure,
            format!("{} is no folder: choose another home with --home or GHOST_HOME", path.display()),
        ));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::new(
            Code::HomeInsecure,
            format!("{} belongs to another user: choose a home of your own with --home", path.display()),
        ));
    }
    if meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o777;
        return Err(insecure(&format!("others may enter {} (mode {mode:03o})", path.display())));
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
    let text = fs::read_to_string(path)
        .map_err(|error| Error::io(format_args!("cannot read {}", path.display()), error))?;
    match uuid::Uuid::try_parse(text.trim()) {
        Ok(id) => Ok(HomeId(*id.as_bytes())),
        Err(_) => Err(Error::internal(format!(
            "{} does not hold 32 hexadecimal digits: stop what runs in this home and remove \
             the file, and the next start makes a new one",
            path.display()
        ))),
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
    fn refuses_a_home_that_others_may_enter() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let error = Home::open(folder.path()).unwrap_err();
        assert_eq!(error.code(), Code::HomeInsecure);
        assert!(error.message().contains("chmod 700"), "{error}");
        assert!(!folder.path().join("home.id").exists());
    }

    #[test]
    fn a_broken_id_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home");
        Home::open(&path).unwrap();
        fs::write(path.join("home.id"), "nonsense").unwrap();
        assert_eq!(Home::open(&path).unwrap_err().code(), Code::Internal);
    }
}
