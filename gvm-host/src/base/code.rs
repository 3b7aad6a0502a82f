//! The error codes. Generated from `schema/codes.toml` by `cargo run -p gvm-codegen`: do not edit.
//!
//! In: a number of the wire. Out: a code, its name. Must not know: when a code is used.

/// What went wrong, as a program can test it. The numbers are those of the wire and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum Code {
    /// GVM has a bug, or the system refused something basic, such as reading a file or starting a thread.
    Internal = 0,
    /// No daemon answers in this home, or at the address given with `--gpmd`.
    GpmdNotRunning = 1,
    /// Another program listens on a port that gpmd, or `--listen`, needs.
    PortInUse = 2,
    /// A running node already has this name.
    NodeNameTaken = 3,
    /// No running node of this home has this name.
    NodeNotFound = 4,
    /// This node is not connected to a node of this name.
    NodeNotConnected = 5,
    /// The other node refused the connection.
    ConnectionDenied = 6,
    /// The other node, or the connection to it, is gone.
    NodeDown = 7,
    /// The other side does not have this home's key, or belongs to another user.
    AuthFailed = 8,
    /// The session does not have the right to do this.
    NotPermitted = 9,
    /// Other users can enter the home folder or read its key, or the folder belongs to another user.
    HomeInsecure = 10,
    /// The disk, or your quota on it, is full.
    StorageFull = 11,
    /// The two sides speak incompatible protocols, or a later version wrote a file.
    VersionMismatch = 12,
    /// This home has no such module or version, or there is no such file.
    ModuleNotFound = 13,
    /// This name and version already exist with different content.
    ModuleExists = 14,
    /// The bytes are not a WebAssembly module or component that GVM can run.
    ModuleInvalid = 15,
    /// A stored file is no longer what was uploaded: the disk or a person changed it.
    ModuleCorrupt = 16,
    /// The module has no such function, or no main.
    FunctionNotFound = 17,
    /// Several interfaces of the component have a function of this name.
    FunctionAmbiguous = 18,
    /// The arguments do not match the function's signature.
    BadArguments = 19,
    /// The signature has a type that cannot be passed yet: a resource, stream, future, `v128` or reference.
    UnsupportedType = 20,
    /// The module imports something that the node does not offer, or offers with another type.
    ImportUnsatisfied = 21,
    /// No live instance has this name.
    InstanceNotFound = 22,
    /// The guest trapped.
    Trap = 23,
    /// The guest exited with a status other than 0, or a function exited before it returned.
    GuestExit = 24,
    /// A limit stopped the guest, or refused what was asked.
    LimitExceeded = 25,
    /// The call took longer than its time limit, and was stopped.
    Timeout = 26,
    /// The call was cancelled.
    Cancelled = 27,
    /// There is too much work at once.
    Overloaded = 28,
    /// GVM cannot parse what you typed, at the prompt, on the command line or in `config.toml`.
    Syntax = 29,
    /// Output could not be written: standard output is closed, or the device or pipe behind it failed.
    OutputLost = 30,
    /// The invitation cannot be used: it was used, has expired, was revoked, or is not complete.
    InvitationInvalid = 31,
    /// This device belongs to a network with other devices already.
    NetworkJoined = 32,
    /// Nodes on several devices have this name, and none of them runs on this device.
    NodeNameAmbiguous = 33,
    /// No device of the network has this name or id.
    DeviceNotFound = 34,
    /// The other device is not connected, or the connection to it was lost.
    DeviceDown = 35,
}

/// Every code, in the order of the numbers.
pub const CODES: [Code; 36] = [
    Code::Internal,
    Code::GpmdNotRunning,
    Code::PortInUse,
    Code::NodeNameTaken,
    Code::NodeNotFound,
    Code::NodeNotConnected,
    Code::ConnectionDenied,
    Code::NodeDown,
    Code::AuthFailed,
    Code::NotPermitted,
    Code::HomeInsecure,
    Code::StorageFull,
    Code::VersionMismatch,
    Code::ModuleNotFound,
    Code::ModuleExists,
    Code::ModuleInvalid,
    Code::ModuleCorrupt,
    Code::FunctionNotFound,
    Code::FunctionAmbiguous,
    Code::BadArguments,
    Code::UnsupportedType,
    Code::ImportUnsatisfied,
    Code::InstanceNotFound,
    Code::Trap,
    Code::GuestExit,
    Code::LimitExceeded,
    Code::Timeout,
    Code::Cancelled,
    Code::Overloaded,
    Code::Syntax,
    Code::OutputLost,
    Code::InvitationInvalid,
    Code::NetworkJoined,
    Code::NodeNameAmbiguous,
    Code::DeviceNotFound,
    Code::DeviceDown,
];

impl Code {
    /// The code as people and programs see it: `MODULE_NOT_FOUND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Internal => "INTERNAL",
            Code::GpmdNotRunning => "GPMD_NOT_RUNNING",
            Code::PortInUse => "PORT_IN_USE",
            Code::NodeNameTaken => "NODE_NAME_TAKEN",
            Code::NodeNotFound => "NODE_NOT_FOUND",
            Code::NodeNotConnected => "NODE_NOT_CONNECTED",
            Code::ConnectionDenied => "CONNECTION_DENIED",
            Code::NodeDown => "NODE_DOWN",
            Code::AuthFailed => "AUTH_FAILED",
            Code::NotPermitted => "NOT_PERMITTED",
            Code::HomeInsecure => "HOME_INSECURE",
            Code::StorageFull => "STORAGE_FULL",
            Code::VersionMismatch => "VERSION_MISMATCH",
            Code::ModuleNotFound => "MODULE_NOT_FOUND",
            Code::ModuleExists => "MODULE_EXISTS",
            Code::ModuleInvalid => "MODULE_INVALID",
            Code::ModuleCorrupt => "MODULE_CORRUPT",
            Code::FunctionNotFound => "FUNCTION_NOT_FOUND",
            Code::FunctionAmbiguous => "FUNCTION_AMBIGUOUS",
            Code::BadArguments => "BAD_ARGUMENTS",
            Code::UnsupportedType => "UNSUPPORTED_TYPE",
            Code::ImportUnsatisfied => "IMPORT_UNSATISFIED",
            Code::InstanceNotFound => "INSTANCE_NOT_FOUND",
            Code::Trap => "TRAP",
            Code::GuestExit => "GUEST_EXIT",
            Code::LimitExceeded => "LIMIT_EXCEEDED",
            Code::Timeout => "TIMEOUT",
            Code::Cancelled => "CANCELLED",
            Code::Overloaded => "OVERLOADED",
            Code::Syntax => "SYNTAX",
            Code::OutputLost => "OUTPUT_LOST",
            Code::InvitationInvalid => "INVITATION_INVALID",
            Code::NetworkJoined => "NETWORK_JOINED",
            Code::NodeNameAmbiguous => "NODE_NAME_AMBIGUOUS",
            Code::DeviceNotFound => "DEVICE_NOT_FOUND",
            Code::DeviceDown => "DEVICE_DOWN",
        }
    }
}
