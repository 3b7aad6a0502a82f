//! Confines the process of a node to what it needs, in case a guest breaks out of its sandbox.
//!
//! In: a home, what the node grants its guests, where it listens. Out: a process that the kernel keeps from everything else: other
//! files (among them the device's key), other programs, connections, the memory of other processes. Must not know: how nodes
//! run, command lines.
//!
//! The kernel does it: Landlock (landlock(7)) for files, TCP and signals, seccomp (seccomp(2)) for other kinds of sockets and for
//! system calls that no node makes. Both hold for the calling thread and all that it starts, so this comes before the first other
//! thread, and both hold for good. wasmtime's sandbox comes first; this holds if a guest breaks out of it.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::error::{Error, Result};
use crate::base::home::Home;
use crate::imports::Grants;
use crate::wire::connector;

/// What a node needs.
#[derive(Clone, Debug)]
pub struct Needs<'a> {
    pub home: &'a Home,
    pub grants: &'a Grants,
    /// The port on which it listens, if it does; 0 for a free one.
    pub listens: Option<u16>,
    /// Other files that it reads.
    pub reads: &'a [PathBuf],
    /// Other files that it changes. Those that are missing are created.
    pub changes: &'a [PathBuf],
}

/// What the kernel enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// The version of Landlock that confines files (from 1) and TCP (from 4).
    pub landlock: Option<i32>,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// Whether the process can gain no rights by starting programs.
    pub no_new_privileges: bool,
}

impl InForce {
    /// Returns what is in force, for people.
    pub fn words(&self) -> String {
        let landlock = match self.landlock {
            Some(version @ 4..) => format!("files and TCP (Landlock {version})"),
            Some(version) => format!("files (Landlock {version}, which does not know TCP)"),
            None => "no files (this kernel has no Landlock)".to_owned(),
        };
        let seccomp = if self.seccomp { "system calls (seccomp)" } else { "no system calls (no seccomp)" };
        let rights = if self.no_new_privileges { "no new privileges" } else { "new privileges are possible" };
        format!("{landlock}; {seccomp}; {rights}")
    }
}

/// Confines this process. What the kernel cannot do is left out, and missing from the answer. Must be called before the process has
/// other threads.
///
/// # Errors
/// `INTERNAL` if the kernel refuses rules that it knows.
pub fn confine(needs: &Needs<'_>) -> Result<InForce> {
    // The kernel has rules only for what is there.
    for path in needs.changes {
        // Whoever writes to it reports why it cannot.
        let made = std::fs::File::options().create(true).append(true).mode(0o600).open(path);
        created(path, made.map(drop));
    }
    let known = needs.home.known();
    created(&known, std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&known));
    if needs.grants.keyvalue {
        let stores = needs.home.keyvalue();
        created(&stores, std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&stores));
    }
    let in_force = system::confine(needs)?;
    connector::ask_at(needs.home.dial_socket());
    Ok(in_force)
}

/// Logs why a file or folder could not be created.
fn created(path: &Path, made: std::io::Result<()>) {
    if let Err(error) = made {
        tracing::debug!(%error, "cannot create `{}`", path.display());
    }
}

/// Tries confinement out, on a thread that ends afterwards: with no grants, the key of the home and a connection must be out of
/// reach. Returns what is in force.
///
/// # Errors
/// `INTERNAL` if something that is in force does not hold.
pub fn try_out(home: &Home) -> Result<InForce> {
    let home = home.clone();
    let thread = std::thread::spawn(move || system::try_out(&home));
    thread.join().unwrap_or_else(|_| Err(Error::internal("the check panicked")))
}

#[cfg(target_os = "linux")]
mod system {
    use std::io::ErrorKind;
    use std::net::{Ipv4Addr, TcpStream};

    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
        PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
    };
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };

    use super::{InForce, Needs};
    use crate::base::error::{Error, Result};
    use crate::base::home::Home;
    use crate::imports::Grants;

    /// The newest version of Landlock whose rules were tried out.
    const NEWEST: ABI = ABI::V7;

    /// What every program needs: its libraries, facts about the system and the processor.
    const SYSTEM: [&str; 12] = [
        "/lib",
        "/lib32",
        "/lib64",
        "/usr/lib",
        "/usr/lib32",
        "/usr/lib64",
        "/usr/local/lib",
        "/nix/store",
        "/proc",
        "/sys",
        "/dev/urandom",
        "/etc/ld.so.cache",
    ];

    /// Devices that may also be written.
    const DEVICES: [&str; 2] = ["/dev/null", "/dev/tty"];

    fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::internal(format!("cannot confine this process: {error}")).with_source(error)
    }

    /// The rights of the superuser that a node may need: files of other users among those that it is allowed, and ports below 1024.
    const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE
        .union(CapabilitySet::DAC_READ_SEARCH)
        .union(CapabilitySet::CHOWN)
        .union(CapabilitySet::FOWNER)
        .union(CapabilitySet::FSETID)
        .union(CapabilitySet::NET_BIND_SERVICE);

    pub fn confine(needs: &Needs<'_>) -> Result<InForce> {
        drop_capabilities()?;
        let mut in_force = landlock(needs)?;
        in_force.seccomp = filter(needs)?;
        in_force.no_new_privileges |= in_force.seccomp;
        Ok(in_force)
    }

    pub fn try_out(home: &Home) -> Result<InForce> {
        let (key, grants) = (home.device_key(), Grants::default());
        let needs = Needs { home, grants: &grants, listens: None, reads: &[], changes: &[] };
        let in_force = confine(&needs)?;
        let refused = |outcome: std::io::Result<()>, what: &str| match outcome {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            // There is no key before gpmd has started for the first time.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            _ => Err(Error::internal(format!("a confined process can {what}"))),
        };
        if in_force.landlock.is_some() {
            refused(std::fs::File::open(key).map(drop), "read the key of this device")?;
        }
        if in_force.landlock.is_some_and(|version| version >= 4) {
            let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, 1)).map(drop);
            refused(connected, "connect to other ports")?;
        }
        Ok(in_force)
    }

    /// Gives up the other rights of the superuser, among them to look into other processes (capabilities(7)).
    fn drop_capabilities() -> Result<()> {
        let CapabilitySets { effective, permitted, .. } = capabilities(None).map_err(failed)?;
        let sets = CapabilitySets {
            effective: effective & KEPT,
            permitted: permitted & KEPT,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets).map_err(failed)
    }

    /// Adds a rule for what is at a path. A path that does not exist needs none.
    fn allow(
        rules: RulesetCreated,
        path: impl AsRef<std::path::Path>,
        access: BitFlags<AccessFs>,
    ) -> Result<RulesetCreated> {
        let Ok(opened) = PathFd::new(&path) else { return Ok(rules) };
        let access = if path.as_ref().is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
        rules.add_rule(PathBeneath::new(opened, access)).map_err(failed)
    }

    fn landlock(needs: &Needs<'_>) -> Result<InForce> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let run = read | AccessFs::Execute;
        let change = read
            | AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::MakeReg
            | AccessFs::MakeDir
            | AccessFs::MakeSym
            | AccessFs::RemoveFile
            | AccessFs::RemoveDir
            | AccessFs::Refer;
        let home = needs.home;
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))
            .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
            .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
            .and_then(Ruleset::create)
            .map_err(failed)?;
        let mut rules = rules.no_new_privs(true);
        for path in SYSTEM {
            rules = allow(rules, path, run)?;
        }
        for path in DEVICES {
            rules = allow(rules, path, read | AccessFs::WriteFile | AccessFs::IoctlDev)?;
        }
        // The compiler is this program.
        if let Ok(program) = std::env::current_exe() {
            rules = allow(rules, program, run)?;
        }
        // A rule keeps its file on the disk as long as the process lives, also after the file is removed. These are not removed.
        for path in [home.modules(), home.fetched(), home.shared(), home.gpmd_lock()] {
            rules = allow(rules, path, read)?;
        }
        for path in [home.compiled(), home.known()] {
            rules = allow(rules, path, change)?;
        }
        rules = allow(rules, home.nodes(), read | AccessFs::MakeSock | AccessFs::RemoveFile)?;
        if needs.grants.keyvalue {
            rules = allow(rules, home.keyvalue(), change)?;
        }
        for dir in &needs.grants.dirs {
            rules = allow(rules, &dir.host, if dir.read_only { read } else { change })?;
        }
        for path in needs.reads {
            rules = allow(rules, path, read)?;
        }
        for path in needs.changes {
            rules = allow(rules, path, read | AccessFs::WriteFile | AccessFs::Truncate)?;
        }
        let net = &needs.grants.net;
        // A guest's socket is bound to a free port before it connects.
        let binds = needs.listens.into_iter().chain((!net.is_empty()).then_some(0));
        for port in binds {
            rules = rules.add_rule(NetPort::new(port, AccessNet::BindTcp)).map_err(failed)?;
        }
        for port in net.ports() {
            rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp)).map_err(failed)?;
        }
        let status = rules.restrict_self().map_err(failed)?;
        let landlock = match (status.ruleset, status.landlock) {
            (RulesetStatus::NotEnforced, _) => None,
            (_, LandlockStatus::Available { effective_abi, .. }) => {
                Some((effective_abi as i32).min(NEWEST as i32))
            }
            _ => None,
        };
        Ok(InForce { landlock, seccomp: false, no_new_privileges: status.no_new_privs })
    }

    /// The system calls that no node makes: those that reach into other processes and the kernel, and those that do the work of others
    /// where a filter does not see it.
    const NEVER: [libc::c_long; 26] = [
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_io_uring_setup,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_open_by_handle_at,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_kexec_load,
        libc::SYS_swapon,
        libc::SYS_reboot,
    ];

    /// Packets of the network device (`SOCK_PACKET`), which is obsolete and has no name in libc.
    const PACKET: i32 = 10;

    /// On x86-64, the bit of the numbers of the same system calls in another calling convention (x32).
    const X32: i64 = 0x4000_0000;

    /// Filters system calls from here on. Returns whether the system can.
    fn filter(needs: &Needs<'_>) -> Result<bool> {
        let Ok(arch) = std::env::consts::ARCH.try_into() else { return Ok(false) };
        let is = |argument, op, value: i32| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value.unsigned_abs().into())
        };
        let (domain, kind, protocol) = (0, 1, 2);
        let masked = SeccompCmpOp::MaskedEq(0xf);
        // Each rule refuses the sockets that meet all its conditions.
        let rule = |conditions: Vec<std::result::Result<SeccompCondition, _>>| {
            SeccompRule::new(conditions.into_iter().collect::<std::result::Result<_, _>>()?)
        };
        // Other families than those of this device, of the internet, and of questions to the kernel about the network.
        let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
        let mut rules = vec![rule(families.map(|family| is(domain, SeccompCmpOp::Ne, family)).into())];
        let mut kinds = vec![libc::SOCK_RAW, libc::SOCK_RDM, libc::SOCK_SEQPACKET, libc::SOCK_DCCP, PACKET];
        if needs.grants.net.is_empty() {
            // Landlock 7 does not know UDP.
            kinds.push(libc::SOCK_DGRAM);
        }
        for family in [libc::AF_INET, libc::AF_INET6] {
            let family = || is(domain, SeccompCmpOp::Eq, family);
            rules.extend(kinds.iter().map(|other| rule(vec![family(), is(kind, masked.clone(), *other)])));
            // Streams that are not TCP, which Landlock does not see: MPTCP, SCTP.
            rules.push(rule(vec![
                family(),
                is(kind, masked.clone(), libc::SOCK_STREAM),
                is(protocol, SeccompCmpOp::Ne, 0),
                is(protocol, SeccompCmpOp::Ne, libc::IPPROTO_TCP),
            ]));
        }
        let rules = rules.into_iter().collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
        let calls = NEVER.into_iter().map(|call| (call, Vec::new()));
        let calls = calls.chain([(libc::SYS_socket, rules)]);
        let x32 = cfg!(target_arch = "x86_64").then_some(X32);
        let calls = calls.flat_map(|(call, rules)| {
            let again = x32.map(|bit| (call | bit, rules.clone()));
            [(call, rules)].into_iter().chain(again)
        });
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter =
            SeccompFilter::new(calls.collect(), SeccompAction::Allow, refuse, arch).map_err(failed)?;
        let program: BpfProgram = filter.try_into().map_err(failed)?;
        match seccompiler::apply_filter(&program) {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::debug!("cannot filter system calls: {error}");
                Ok(false)
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{InForce, Needs};
    use crate::base::error::Result;
    use crate::base::home::Home;

    pub fn confine(_: &Needs<'_>) -> Result<InForce> {
        Ok(InForce::default())
    }

    pub fn try_out(_: &Home) -> Result<InForce> {
        Ok(InForce::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_key_is_out_of_reach() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        crate::trust::device::DeviceKey::open(&home).unwrap();
        let in_force = try_out(&home).unwrap();
        assert!(in_force.no_new_privileges, "{in_force:?}");
        // Only the thread was confined.
        assert!(std::fs::read(home.device_key()).is_ok());
    }
}
