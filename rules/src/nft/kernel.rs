//! The numbers of the kernel's nf_tables interface (`linux/netfilter/nf_tables.h`), as far as our rules need them.

use crate::ruleset::{Family, Protocol};

/// Attributes of tables.
pub(super) mod table {
    pub(in crate::nft) const NAME: u16 = 1;
    pub(in crate::nft) const FLAGS: u16 = 2;
    /// The flag of a table that is switched off.
    pub(in crate::nft) const DORMANT: u32 = 1;
}

/// Attributes of chains, and of the hook inside.
pub(super) mod chain {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 3;
    pub(in crate::nft) const HOOK: u16 = 4;
    pub(in crate::nft) const POLICY: u16 = 5;
    pub(in crate::nft) const KIND: u16 = 7;
    pub(in crate::nft) const HOOK_NUMBER: u16 = 1;
    pub(in crate::nft) const HOOK_PRIORITY: u16 = 2;
}

/// Attributes of rules, and of the expressions inside.
pub(super) mod rule {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const CHAIN: u16 = 2;
    pub(in crate::nft) const EXPRESSIONS: u16 = 4;
    pub(in crate::nft) const EXPRESSION: u16 = 1;
    pub(in crate::nft) const EXPRESSION_NAME: u16 = 1;
    pub(in crate::nft) const EXPRESSION_BODY: u16 = 2;
}

/// Attributes of sets, and of their elements.
pub(super) mod set {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const KEY_TYPE: u16 = 4;
    pub(in crate::nft) const KEY_LENGTH: u16 = 5;
    pub(in crate::nft) const ID: u16 = 10;
    pub(in crate::nft) const ELEMENTS: u16 = 3;
    pub(in crate::nft) const ELEMENTS_SET: u16 = 2;
    pub(in crate::nft) const ELEMENTS_SET_ID: u16 = 4;
    pub(in crate::nft) const ELEMENT: u16 = 1;
    pub(in crate::nft) const ELEMENT_KEY: u16 = 1;
    /// The flags of a set that belongs to one rule and never changes.
    pub(in crate::nft) const ANONYMOUS_CONSTANT: u32 = 1 | 2;
    /// What `nft` calls ports, so that it lists them as such.
    pub(in crate::nft) const TYPE_OF_PORTS: u32 = 13;
    /// The kernel puts a number of its own in place of `%d`.
    pub(in crate::nft) const ANONYMOUS_NAME: &str = "__set%d";
}

/// Attributes of expressions.
pub(super) mod expression {
    pub(in crate::nft) const DATA_VALUE: u16 = 1;
    pub(in crate::nft) const DATA_VERDICT: u16 = 2;
    pub(in crate::nft) const VERDICT_CODE: u16 = 1;
    pub(in crate::nft) const VERDICT_CHAIN: u16 = 2;
    /// `meta` and `ct` share these.
    pub(in crate::nft) const LOAD_INTO: u16 = 1;
    pub(in crate::nft) const LOAD_KEY: u16 = 2;
    pub(in crate::nft) const META_SET_FROM: u16 = 3;
    pub(in crate::nft) const CT_SET_FROM: u16 = 4;
    pub(in crate::nft) const COMPARE_REGISTER: u16 = 1;
    pub(in crate::nft) const COMPARE_HOW: u16 = 2;
    pub(in crate::nft) const COMPARE_WITH: u16 = 3;
    /// The end of a range; `COMPARE_WITH` is its beginning.
    pub(in crate::nft) const RANGE_END: u16 = 4;
    pub(in crate::nft) const PAYLOAD_INTO: u16 = 1;
    pub(in crate::nft) const PAYLOAD_BASE: u16 = 2;
    pub(in crate::nft) const PAYLOAD_OFFSET: u16 = 3;
    pub(in crate::nft) const PAYLOAD_LENGTH: u16 = 4;
    pub(in crate::nft) const BITWISE_FROM: u16 = 1;
    pub(in crate::nft) const BITWISE_INTO: u16 = 2;
    pub(in crate::nft) const BITWISE_LENGTH: u16 = 3;
    pub(in crate::nft) const BITWISE_MASK: u16 = 4;
    pub(in crate::nft) const BITWISE_XOR: u16 = 5;
    pub(in crate::nft) const LOOKUP_SET: u16 = 1;
    pub(in crate::nft) const LOOKUP_REGISTER: u16 = 2;
    pub(in crate::nft) const LOOKUP_SET_ID: u16 = 4;
    pub(in crate::nft) const LOOKUP_FLAGS: u16 = 5;
    pub(in crate::nft) const LOOKUP_INVERTED: u32 = 1;
    pub(in crate::nft) const IMMEDIATE_INTO: u16 = 1;
    pub(in crate::nft) const IMMEDIATE_DATA: u16 = 2;
    pub(in crate::nft) const COUNTER_BYTES: u16 = 1;
    pub(in crate::nft) const COUNTER_PACKETS: u16 = 2;
    /// `match` and `target` share these.
    pub(in crate::nft) const EXTENSION_NAME: u16 = 1;
    pub(in crate::nft) const EXTENSION_REVISION: u16 = 2;
    pub(in crate::nft) const EXTENSION_INFO: u16 = 3;
    pub(in crate::nft) const REDIR_PORT_REGISTER: u16 = 1;
    pub(in crate::nft) const TPROXY_FAMILY: u16 = 1;
    pub(in crate::nft) const TPROXY_PORT_REGISTER: u16 = 3;
}

/// How a register is compared.
pub(super) mod compare {
    pub(in crate::nft) const EQUAL: u32 = 0;
    pub(in crate::nft) const UNEQUAL: u32 = 1;
    pub(in crate::nft) const AT_MOST: u32 = 3;
    pub(in crate::nft) const AT_LEAST: u32 = 5;
}

/// What `meta` loads and sets.
pub(super) mod meta {
    pub(in crate::nft) const MARK: u32 = 3;
    pub(in crate::nft) const IN_INTERFACE: u32 = 6;
    pub(in crate::nft) const OUT_INTERFACE: u32 = 7;
    pub(in crate::nft) const USER: u32 = 10;
    pub(in crate::nft) const GROUP: u32 = 11;
    pub(in crate::nft) const FAMILY: u32 = 15;
    pub(in crate::nft) const PROTOCOL: u32 = 16;
}

/// What `ct` loads and sets.
pub(super) mod ct {
    pub(in crate::nft) const STATE: u32 = 0;
    pub(in crate::nft) const MARK: u32 = 3;
    pub(in crate::nft) const ZONE: u32 = 17;
}

/// Where `payload` counts from.
pub(super) mod payload {
    pub(in crate::nft) const NETWORK: u32 = 1;
    pub(in crate::nft) const TRANSPORT: u32 = 2;
}

/// Verdicts, as signed numbers.
pub(super) mod verdict {
    pub(in crate::nft) const DROP: i32 = 0;
    pub(in crate::nft) const ACCEPT: i32 = 1;
    pub(in crate::nft) const JUMP: i32 = -3;
    pub(in crate::nft) const RETURN: i32 = -5;
}

/// Registers: where a verdict goes, and the one that values pass through.
pub(super) const VERDICT_REGISTER: u32 = 0;
pub(super) const REGISTER: u32 = 1;

/// The number of an address family in netfilter.
pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// The number of a transport protocol.
pub(super) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}
