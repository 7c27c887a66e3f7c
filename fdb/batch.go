package fdb

// LookupBatch looks up each of macs and writes what it finds, as Lookup would,
// to dst, which is at least as long. In a table that outgrows the caches a
// lookup is a wait for memory; a batch waits for all of its addresses at once,
// which halves the time of each.
func (t *Table) LookupBatch(macs []MAC, dst []Dst) {
	const lane = 64
	var hashes [lane]uint64
	var parts [lane]*part
	for len(macs) > 0 {
		n := min(len(macs), lane)
		dir := t.dir.Load()
		for i, m := range macs[:n] {
			h := t.key.hash(m)
			p := dir.at(h)
			hashes[i], parts[i] = h, p
			p.buckets[h&p.mask].slots[0].key.Load() // nothing depends on it: the next need not wait
		}
		for i, m := range macs[:n] {
			var d Dst
			if v := parts[i].find(hashes[i], uint64(m)|occupied); v != nil {
				d = dstOf(v.Load())
			}
			dst[i] = d
		}
		macs, dst = macs[n:], dst[n:]
	}
}

// Warm lets the processor fetch what a Lookup or Learn of m will need, without
// waiting for it. It pays for a batch of addresses in a table that outgrows the
// caches.
func (t *Table) Warm(m MAC) {
	h := t.key.hash(m)
	p := t.part(h)
	p.buckets[h&p.mask].slots[0].key.Load() // nothing depends on it
}
