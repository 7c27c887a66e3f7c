package vtep

import (
	"sync/atomic"

	"github.com/uvtep/uvtep/internal/frame"
)

// counter has one writer, its worker, so that adding needs no locked
// instruction; everybody may read it.
type counter struct{ n atomic.Uint64 }

func (c *counter) add(n uint64) { c.n.Store(c.n.Load() + n) }

// addShared is add where there are several writers.
func (c *counter) addShared(n uint64) { c.n.Add(n) }
func (c *counter) load() uint64       { return c.n.Load() }

// traffic is what one worker counted at one port or peer. It fills two cache
// lines, so that two workers never write to the same one.
type traffic struct {
	rxPackets, rxBytes, rxDropped counter
	txPackets, txBytes, txDropped counter
	_                             [80]byte
}

// Traffic is what went in and out at a port or a peer. Rx is towards the
// switch, Tx away from it; bytes are those of the inner frames.
type Traffic struct {
	RxPackets, RxBytes, RxDropped uint64
	TxPackets, TxBytes, TxDropped uint64
}

// addTo adds what one worker counted to a total.
func (w *traffic) addTo(t *Traffic) {
	t.RxPackets += w.rxPackets.load()
	t.RxBytes += w.rxBytes.load()
	t.RxDropped += w.rxDropped.load()
	t.TxPackets += w.txPackets.load()
	t.TxBytes += w.txBytes.load()
	t.TxDropped += w.txDropped.load()
}

func sum(workers []traffic) (t Traffic) {
	for i := range workers {
		workers[i].addTo(&t)
	}
	return t
}

// drops are the frames that one worker dropped, by reason.
type drops [frame.Reasons]counter

// dropTable is a segment's drops, one array a worker and a last one for whoever
// works beside them. The VTEP has one of its own, for packets of which no segment
// is known.
type dropTable []drops

func (d dropTable) sum(r frame.Reason) (n uint64) {
	for i := range d {
		n += d[i][r].load()
	}
	return n
}
