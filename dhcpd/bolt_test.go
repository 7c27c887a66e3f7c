package dhcpd_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/uvtep/uvtep/dhcpd"
)

func openBolt(t *testing.T, path string) dhcpd.Store {
	t.Helper()
	s, err := dhcpd.OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// leases are all of a segment, by address.
func leases(t *testing.T, s dhcpd.Store, segment uint32) []dhcpd.Lease {
	t.Helper()
	var out []dhcpd.Lease
	if err := s.Load(segment, func(l dhcpd.Lease) error { out = append(out, l); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(out, func(a, b dhcpd.Lease) int { return a.IP.Compare(b.IP) })
	return out
}

// someLeases are leases with every field set to something.
func someLeases(n int) []dhcpd.Lease {
	out := make([]dhcpd.Lease, n)
	start := time.UnixMilli(1767225600123)
	for i := range out {
		out[i] = dhcpd.Lease{
			IP: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), State: dhcpd.StateBound, HType: 1,
			CHAddr: string(mac(i)), ClientID: "\xff\x00id" + fmt.Sprint(i), Hostname: "héros", Port: "tap0", Relay: "\x01\x01\x00",
			Start: start, Expires: start.Add(time.Duration(i) * time.Second),
		}
	}
	return out
}

func puts(segment uint32, all []dhcpd.Lease) []dhcpd.Change {
	var out []dhcpd.Change
	for _, l := range all {
		out = append(out, dhcpd.Change{Segment: segment, Lease: l})
	}
	return out
}

func TestAStoreGivesBackWhatWasCommitted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	for name, open := range map[string]func() dhcpd.Store{
		"memory": dhcpd.MemoryStore,
		"bolt":   func() dhcpd.Store { return openBolt(t, path) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open()
			want := someLeases(500)
			want[1].State, want[2].State = dhcpd.StateFree, dhcpd.StateDeclined
			want[3].ClientID, want[4].CHAddr, want[5].Hostname, want[6].Relay = "", "", "", ""
			if err := s.Commit(puts(7, want)); err != nil {
				t.Fatal(err)
			}
			if got := leases(t, s, 7); !slices.Equal(got, want) {
				t.Errorf("%d leases came back, want %d, the first %+v", len(got), len(want), got[0])
			}
			if got := leases(t, s, 8); len(got) != 0 {
				t.Errorf("another segment has %d leases", len(got))
			}
			// Several changes of one address in a transaction: the last counts.
			late := want[0]
			late.Hostname = "late"
			if err := s.Commit([]dhcpd.Change{
				{Segment: 7, Lease: want[0]}, {Segment: 8, Lease: want[0]}, {Segment: 7, Delete: true, Lease: dhcpd.Lease{IP: want[0].IP}},
				{Segment: 7, Lease: late}, {Segment: 7, Lease: want[1]}, {Segment: 7, Delete: true, Lease: dhcpd.Lease{IP: want[1].IP}},
				{Segment: 9, Delete: true, Lease: dhcpd.Lease{IP: want[1].IP}},
			}); err != nil {
				t.Fatal(err)
			}
			if got := leases(t, s, 7); len(got) != 499 || got[0] != late || got[1] != want[2] {
				t.Errorf("%d leases, first %+v", len(got), got[:2])
			}
			stop := errors.New("stop")
			if err := s.Load(7, func(dhcpd.Lease) error { return stop }); !errors.Is(err, stop) {
				t.Errorf("Load returns %v, want what the function returned", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	s := openBolt(t, path)
	if got := leases(t, s, 8); len(got) != 1 {
		t.Errorf("%d leases after the file was opened again, want 1", len(got))
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600: who has which address is nobody else's business", info.Mode(), err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// full makes a closed store of n leases.
func full(t *testing.T, n int) (path string, image []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "leases.db")
	s := openBolt(t, path)
	// Several transactions, so that both headers and the free list are in use.
	for part := range slices.Chunk(someLeases(n), n/4) {
		if err := s.Commit(puts(100, part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, image
}

func TestAFileThatCannotBeUsedIsNamedAndNeverReplaced(t *testing.T) {
	other := func(t *testing.T, path string, f func(tx *bolt.Tx) error) {
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(f), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	_, image := full(t, 400)
	write := func(b []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tt := range map[string]struct {
		make func(t *testing.T, path string)
		kind error
		says string
	}{
		"an empty file":               {write(nil), dhcpd.ErrStoreDamaged, "no valid header"},
		"a text":                      {write([]byte(strings.Repeat("lease {}\n", 9000))), dhcpd.ErrStoreDamaged, "no valid header"},
		"a file cut after its header": {write(image[:8192]), dhcpd.ErrStoreDamaged, "8192 bytes of"},
		"a file cut in the middle":    {write(image[:len(image)/2]), dhcpd.ErrStoreDamaged, "bytes of"},
		"a directory":                 {func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, dhcpd.ErrStoreDamaged, "not a regular file"},
		"another program's database": {func(t *testing.T, path string) {
			other(t, path, func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("pods")); return err })
		}, dhcpd.ErrStoreDamaged, "another program"},
		"a store of a later format": {func(t *testing.T, path string) {
			write(image)(t, path)
			other(t, path, func(tx *bolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("version"), []byte{0, 0, 0, 2}) })
		}, dhcpd.ErrStoreNewer, "newer version"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "leases.db")
			tt.make(t, path)
			before := content(path)
			_, err := dhcpd.OpenBolt(path)
			var se *dhcpd.StoreError
			if !errors.As(err, &se) || !errors.Is(err, tt.kind) || se.Path != path {
				t.Fatalf("error %v, want %v", err, tt.kind)
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q does not say %q in one line", err, tt.says)
			}
			if !bytes.Equal(before, content(path)) {
				t.Error("the file was changed")
			}
		})
	}
}

// content is what a file holds, nil for what is no file.
func content(path string) []byte {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil // to read a pipe would wait for its other end
	}
	b, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAStoreThatAnotherProgramHoldsIsBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	s := openBolt(t, path)
	if _, err := dhcpd.OpenBolt(path); !errors.Is(err, dhcpd.ErrStoreBusy) {
		t.Errorf("error %v, want busy", err)
	}
	must(t, s.Commit(puts(1, someLeases(1)))) // the holder is not disturbed
}

func TestAStoreInAMissingDirectoryIsAnErrorThatNamesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "leases.db")
	if _, err := dhcpd.OpenBolt(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), filepath.Dir(path)) {
		t.Errorf("error %v", err)
	}
}

func TestTwoProgramsThatMakeOneStoreMakeItOnce(t *testing.T) {
	for range 4 {
		path := filepath.Join(t.TempDir(), "leases.db")
		var wg sync.WaitGroup
		var mu sync.Mutex
		acknowledged := 0
		for range 4 {
			wg.Go(func() {
				s, err := dhcpd.OpenBolt(path)
				if errors.Is(err, dhcpd.ErrStoreBusy) {
					return
				}
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				mu.Lock()
				l := someLeases(acknowledged + 1)[acknowledged]
				err = s.Commit(puts(1, []dhcpd.Lease{l}))
				acknowledged++
				mu.Unlock()
				if err := errors.Join(err, s.Close()); err != nil {
					t.Errorf("commit: %v", err)
				}
			})
		}
		wg.Wait()
		if n := len(leases(t, openBolt(t, path), 1)); n != acknowledged {
			t.Fatalf("%d leases are there of %d: one's file was replaced by another's", n, acknowledged)
		}
	}
}

// TestADamagedPageIsAnErrorAndNoCrash spoils each page in turn. The database
// has no checksum of its pages, so not every fault is found; none may end the
// process, none may make up a lease.
func TestADamagedPageIsAnErrorAndNoCrash(t *testing.T) {
	path, image := full(t, 600)
	want := map[netip.Addr]dhcpd.Lease{}
	for _, l := range someLeases(600) {
		want[l.IP] = l
	}
	size := os.Getpagesize()
	rng := rand.New(rand.NewPCG(1, 2))
	spoilers := map[string]func(page []byte){
		"zeros": func(p []byte) { clear(p) },
		"ones":  func(p []byte) { copy(p, bytes.Repeat([]byte{0xff}, len(p))) },
		"noise": func(p []byte) {
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
		},
		"header": func(p []byte) { p[8] ^= 3; p[10] ^= 0x55 },
		"a bit":  func(p []byte) { p[16+rng.IntN(len(p)-16)] ^= 1 << rng.IntN(8) },
	}
	found := map[string]int{}
	for name, spoil := range spoilers {
		for at := 0; at+size <= len(image); at += size {
			if bytes.Count(image[at:at+size], []byte{0}) == size {
				continue // not in use
			}
			b := slices.Clone(image)
			spoil(b[at : at+size])
			// A new name each time: the database forgets to unlock a file that it
			// could not open.
			path := fmt.Sprintf("%s.%s.%d", path, strings.ReplaceAll(name, " ", ""), at)
			must(t, os.WriteFile(path, b, 0o600))
			s, err := dhcpd.OpenBolt(path)
			if err == nil {
				err = s.Load(100, func(l dhcpd.Lease) error {
					if want[l.IP] != l {
						t.Errorf("%s on page %d: lease %+v is not what was stored", name, at/size, l)
					}
					return nil
				})
				if err == nil {
					// Nor may writing end the process.
					if err := s.Commit(puts(100, someLeases(50))); err != nil && !errors.Is(err, dhcpd.ErrStoreDamaged) {
						t.Logf("%s on page %d: commit: %v", name, at/size, err)
					}
				}
				s.Close()
			}
			if err != nil {
				found[name]++
				if !errors.Is(err, dhcpd.ErrStoreDamaged) && !errors.Is(err, dhcpd.ErrStoreNewer) {
					t.Errorf("%s on page %d: %v, want a StoreError of damage", name, at/size, err)
				}
			}
		}
	}
	for name := range spoilers {
		if found[name] == 0 {
			t.Errorf("%s: no page's damage was found", name)
		}
	}
}

// record is how a lease is stored: the layout is a promise to later versions.
func record(segment uint32, ip netip.Addr, body []byte) []byte {
	key := binary.BigEndian.AppendUint32(nil, segment)
	key = append(key, ip.AsSlice()...)
	sum := crc32.Checksum(append(key, body...), crc32.MakeTable(crc32.Castagnoli))
	return binary.BigEndian.AppendUint32(body, sum)
}

func TestRecordsOfOtherVersionsAndDamagedOnesAreRefused(t *testing.T) {
	l := someLeases(1)[0]
	times := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(l.Start.UnixMilli())), uint64(l.Expires.UnixMilli()))
	body := func(version, state byte, fields string) []byte {
		return append(append([]byte{version, state, 1}, times...), fields...)
	}
	const hw = "\x01\x06\x02\x00\x00\x00\x00\x00"
	spoilt := record(100, l.IP, body(1, 2, hw))
	spoilt[5] ^= 1
	for name, tt := range map[string]struct {
		record []byte
		want   error
	}{
		"a good one":                 {record(100, l.IP, body(1, 2, hw)), nil},
		"with a field of the future": {record(100, l.IP, body(1, 2, hw+"\x63\x02hi")), nil},
		"a later version":            {record(100, l.IP, body(2, 2, hw)), dhcpd.ErrStoreNewer},
		"a spoilt bit":               {spoilt, dhcpd.ErrStoreDamaged},
		"in another segment's place": {record(101, l.IP, body(1, 2, hw)), dhcpd.ErrStoreDamaged},
		"an offer":                   {record(100, l.IP, body(1, 1, hw)), dhcpd.ErrStoreDamaged},
		"nobody's":                   {record(100, l.IP, body(1, 2, "")), dhcpd.ErrStoreDamaged},
		"a field cut short":          {record(100, l.IP, body(1, 2, hw+"\x03\x09x")), dhcpd.ErrStoreDamaged},
		"nothing":                    {nil, dhcpd.ErrStoreDamaged},
	} {
		path := filepath.Join(t.TempDir(), "leases.db")
		s := openBolt(t, path)
		must(t, s.Commit(puts(100, []dhcpd.Lease{l})))
		must(t, s.Close())
		db, err := bolt.Open(path, 0o600, nil)
		must(t, err)
		must(t, db.Update(func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("leases")).Bucket([]byte{0, 0, 0, 100}).Put(l.IP.AsSlice(), tt.record)
		}))
		must(t, db.Close())
		s = openBolt(t, path)
		n := 0
		err = s.Load(100, func(got dhcpd.Lease) error {
			if n++; got.IP != l.IP || got.CHAddr != l.CHAddr || !got.Expires.Equal(l.Expires) {
				t.Errorf("%s: %+v", name, got)
			}
			return nil
		})
		if !errors.Is(err, tt.want) || (tt.want == nil) != (n == 1) {
			t.Errorf("%s: %d leases, %v, want %v", name, n, err, tt.want)
		}
		// A segment whose leases cannot be read is not served as if it had none.
		svc, err := dhcpd.NewService(dhcpd.Config{Store: s})
		must(t, err)
		if _, err := svc.Add(100, blue()); !errors.Is(err, tt.want) {
			t.Errorf("%s: Add: %v, want %v", name, err, tt.want)
		}
		must(t, s.Close())
	}
}
