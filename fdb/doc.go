// Package fdb is the forwarding state of one segment: the table that says
// behind which local port or remote VTEP a MAC address lives ([Table]), and the
// set of those remote VTEPs ([Peers]).
//
// It knows no sockets, no frames and no clock: the time is passed in as
// [Seconds], and nothing runs in the background. Every method may be called
// from any goroutine at any time.
//
// # How the table works
//
// The table is an extendible hash table. A keyed hash of the MAC picks, with
// its top bits, an entry of a directory, which points to one of the table's
// parts; its low bits pick a bucket in that part. A bucket is one cache line of
// four slots; one that is full overflows into the next. A part that is full
// doubles, up to a fixed size, and from there on splits in two; parts that have
// become empty shrink, and halves that fit into one merge again. So neither
// growth nor shrinking ever touches more than one small part at once, a table
// of a few entries is a few hundred bytes, and one that a flood has blown up
// gives the memory back when the flood has aged out.
//
// A slot is two atomic words: the MAC, and its binding (destination, origin,
// the second when it was last seen, see binding). Readers rest on one rule: a
// slot's MAC is written once and never changes as long as its part lives. A
// lookup therefore loads the directory, the part and the MACs of (nearly always)
// one bucket, and then one word that is the whole answer. It takes no lock,
// retries nothing, and cannot be told of a destination that this MAC never had.
//
// Deleting an entry empties its binding and leaves its MAC, ready for the same
// station to come back. Slots emptied so count as used; when a part has no
// unused slot left it is copied into a new one of the size that its living
// entries need. They are thus paid for by the insertions that use slots up, and
// probe lengths stay bounded however long the table churns.
//
// Writers lock one part. The one write that is hot, refreshing the time a
// station was last seen, does not: it is a compare-and-swap, once a second and
// station. Copying a part marks each binding as sealed first, upon which such a
// refresh fails and is repeated, under the lock, where the entry lives now: no
// refresh is lost.
//
// # Who is learned when there is no room
//
// A table may be bounded, several together by a [Total], and each destination by
// [Table.SetLimit]. Known MACs always stay known. A new one of a destination
// that has its share, which is the limit divided by the destinations that have
// any, is not learned; in a flood of made-up addresses that is found out without
// a lock. One of a destination that has less takes the place of the longest
// unused entry of the destination that has most, of those that a look through
// some 100 entries of the part finds, behind those that were looked at before:
// the part is locked anyway, which entries are in it nobody can choose, and
// whoever has more than the others is met there. If he is not, some further parts
// are looked into, and then the station has to wait for its next frame.
//
// A MAC that moves back and forth is held, after some moves, where it was before
// the first of them ([Config].Moves). The moves are counted beside the table, for
// a bounded number of MACs, and a bit in the binding says that it is held.
//
// The hash is keyed with random numbers of the table's own, so that nobody can
// compute MACs that collide.
package fdb
