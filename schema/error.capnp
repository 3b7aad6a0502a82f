@0xb1f0c62a7d53e884;
# An error with its code and its outcome. `code` is the number of a `Code`. A reader treats a number that it does not
# know as INTERNAL.

struct Error {
  code @0 :UInt16;
  effect @1 :Effect;
  message @2 :Text;
  context @3 :Text;                # backtrace, signature, pointer lines; null if there is none
  hasExit @4 :Bool;
  exit @5 :Int32;                  # the guest's status, if hasExit
  help @6 :Text;                   # what the reader can do, one line; null if there is none
  reason @7 :UInt16;               # a number of `Reason`; 0 if there is none
}

# BEGIN GENERATED from schema/codes.toml
enum Code {
  internal @0;
  gpmdNotRunning @1;
  portInUse @2;
  nodeNameTaken @3;
  nodeNotFound @4;
  nodeNotConnected @5;
  connectionDenied @6;
  nodeDown @7;
  authFailed @8;
  notPermitted @9;
  homeInsecure @10;
  storageFull @11;
  versionMismatch @12;
  moduleNotFound @13;
  moduleExists @14;
  moduleInvalid @15;
  moduleCorrupt @16;
  functionNotFound @17;
  functionAmbiguous @18;
  badArguments @19;
  unsupportedType @20;
  importUnsatisfied @21;
  instanceNotFound @22;
  trap @23;
  guestExit @24;
  limitExceeded @25;
  timeout @26;
  cancelled @27;
  overloaded @28;
  syntax @29;
  outputLost @30;
  invitationInvalid @31;
  networkJoined @32;
  nodeNameAmbiguous @33;
  deviceNotFound @34;
  deviceDown @35;
}
# END GENERATED

enum Effect {
  notStarted @0;
  ranAndFailed @1;
  unknown @2;
}
