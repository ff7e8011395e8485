//! Counters, one per outcome.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened since the start. Counters only grow (and wrap after 2^64).
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats { $($(#[$doc])* pub $name: u64,)* }

        impl Stats {
            /// Name and value of every counter, for a metrics page.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Messages from clients.
    queries,
    /// Replies to clients.
    replies,
    /// Replies cut to fit, with TC.
    truncated,
    /// Replies not sent because the client's limit is below 12 bytes.
    reply_unsendable,
    /// Dropped: shorter than a header.
    query_too_short,
    /// Dropped: a response sent to us as a query.
    query_is_response,
    /// Dropped: sent again by a client that still waits for the answer.
    query_repeated,
    /// Refused with FORMERR.
    query_malformed,
    /// Refused with NOTIMP: an opcode other than QUERY.
    query_opcode,
    /// Refused with BADVERS: an EDNS version other than 0.
    query_edns_version,
    /// Refused with REFUSED: zone transfers and the CHAOS class.
    query_refused,
    /// Answered SERVFAIL: the client has too many queries waiting.
    client_quota,
    /// Answered SERVFAIL: too many questions under way, or queries waiting, in all.
    full,
    /// Answered SERVFAIL: there is no server for the name.
    no_upstream,
    /// Answered from local names.
    local,
    /// Answered from the cache, positively.
    cache_hits,
    /// Answered from the cache, negatively.
    cache_negative_hits,
    /// Not in the cache.
    cache_misses,
    /// Answers put into the cache.
    cache_stored,
    /// Joined a question already under way.
    coalesced,
    /// Queries sent upstream over UDP.
    upstream_udp,
    /// Queries sent upstream over TCP.
    upstream_tcp,
    /// Answers accepted from upstream.
    upstream_answers,
    /// Truncated answers from upstream.
    upstream_truncated,
    /// Answers with SERVFAIL, REFUSED or NOTIMP.
    upstream_errors,
    /// Ignored: an answer to a query that is over.
    upstream_unsolicited,
    /// Ignored: wrong server, id or question.
    upstream_mismatched,
    /// An answer that matched, with records that cannot be read.
    upstream_malformed,
    /// Attempts without an answer in time.
    upstream_timeouts,
    /// Attempts that the I/O layer reported as failed.
    upstream_failures,
    /// Questions that ended in SERVFAIL because no server gave an answer.
    servfail,
    /// Waiting queries dropped because their client went away.
    abandoned,
}
