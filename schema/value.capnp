@0xc7a6f1b0d2e94a31;
# Values and types as they are sent. A value has positions only; its type has the names.
# Add fields and union members at the end. Never change or reuse a number (schema/README.md).

struct Value {
  union {
    bool @0 :Bool;
    s8 @1 :Int8;
    u8 @2 :UInt8;
    s16 @3 :Int16;
    u16 @4 :UInt16;
    s32 @5 :Int32;
    u32 @6 :UInt32;
    s64 @7 :Int64;
    u64 @8 :UInt64;
    f32 @9 :Float32;
    f64 @10 :Float64;
    char @11 :UInt32;              # a Unicode scalar value
    string @12 :Text;
    numbers :group {               # a list of numbers, packed, little-endian
      element @13 :Number;
      data @14 :Data;
    }
    list @15 :List(Value);         # a list of anything else
    record @16 :List(Value);       # the fields, in order
    tuple @17 :List(Value);
    variant :group {
      case @18 :UInt32;
      payload @19 :Value;          # null if the case has none
    }
    enum @20 :UInt32;
    none @21 :Void;                # option
    some @22 :Value;
    ok :group {                    # result; null if that side has no type
      payload @23 :Value;
    }
    err :group {
      payload @24 :Value;
    }
    flags @25 :List(UInt32);       # 32 labels per word, the first label in bit 0
    part :group {                  # a part of the large value that contains it
      index @26 :UInt32;
      text @27 :Bool;              # whether it is a string; otherwise it is a list of numbers
    }
    # Reserved, to be added when they are built: @28 resource (a capability), @29 stream, @30 future.
  }
}

enum Number {
  s8 @0;
  u8 @1;
  s16 @2;
  u16 @3;
  s32 @4;
  u32 @5;
  s64 @6;
  u64 @7;
  f32 @8;
  f64 @9;
}

# The root of the message of a large value, which says where its parts belong.
struct Shape {
  union {
    values @0 :List(Value);
    text @1 :Text;                 # arguments in WAVE
  }
}

struct Type {
  union {
    bool @0 :Void;
    s8 @1 :Void;
    u8 @2 :Void;
    s16 @3 :Void;
    u16 @4 :Void;
    s32 @5 :Void;
    u32 @6 :Void;
    s64 @7 :Void;
    u64 @8 :Void;
    f32 @9 :Void;
    f64 @10 :Void;
    char @11 :Void;
    string @12 :Void;
    list @13 :Type;
    record @14 :List(Field);
    tuple @15 :List(Type);
    variant @16 :List(Field);      # cases; the type is null if a case has no payload
    enum @17 :List(Text);
    option @18 :Type;
    result :group {
      ok @19 :Type;                # null if that side has no type
      err @20 :Type;
    }
    flags @21 :List(Text);
    unsupported @22 :Text;         # the WIT or core name of a type that cannot be sent
    fixedList :group {             # its values are those of a list
      element @23 :Type;
      length @24 :UInt32;
    }
    map :group {                   # its values are lists of tuples: a key and its value
      key @25 :Type;
      value @26 :Type;
    }
  }
}

struct Field {
  name @0 :Text;
  type @1 :Type;
}

struct FuncType {
  params @0 :List(Field);
  result @1 :Type;                 # null if there is none
}
