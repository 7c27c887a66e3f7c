package dhcpd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The file: bucket "meta" says what it is, bucket "leases" has a bucket per
// segment (VNI, big endian) with a record per lease of IPv4, by its key, and
// bucket "leases6" the same for IPv6. Programs that know no leases6 keep it.
var (
	bucketMeta    = []byte("meta")
	bucketLeases  = []byte("leases")
	bucketLeases6 = []byte("leases6")
	keyFormat     = []byte("format")
	keyVersion    = []byte("version")
	valueFormat   = []byte("uvtep dhcp leases")
)

const (
	storeVersion = 1
	lockWait     = 500 * time.Millisecond
)

// OpenBolt opens the lease store in a file, which is made (mode 0600) if there
// is none. The errors are StoreErrors where the file itself is the trouble: it
// is held by another program, damaged, foreign or too new. A file that exists
// is never replaced.
func OpenBolt(path string) (Store, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := createBolt(path); err != nil {
			return nil, err
		}
	}
	if err := inspect(path); err != nil {
		return nil, err
	}
	db, err := openDB(path)
	if err != nil {
		return nil, err
	}
	s := &boltStore{path: path, db: db}
	if err := guard(path, func() error { return db.View(checkFormat) }); err != nil {
		db.Close()
		return nil, err
	}
	return s, nil
}

// createBolt makes an empty store beside path and gives it that name once it is
// whole, so that a file at path is never a half-made one and never replaced.
func createBolt(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new*")
	if err != nil {
		return fmt.Errorf("make lease store: %w", err)
	}
	tmp := f.Name()
	defer os.Remove(tmp)
	if err := f.Close(); err != nil {
		return fmt.Errorf("make lease store: %w", err)
	}
	db, err := openDB(tmp)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(bucketMeta)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucketIfNotExists(bucketLeases); err != nil {
			return err
		}
		return errors.Join(
			meta.Put(keyFormat, valueFormat),
			meta.Put(keyVersion, binary.BigEndian.AppendUint32(nil, storeVersion)),
		)
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("make lease store %s: %w", path, err)
	}
	// Another program may have been faster: its store is as good. A file system
	// without hard links cannot tell; there the name is taken as it is.
	err = os.Link(tmp, path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.Rename(tmp, path); err != nil {
			return fmt.Errorf("make lease store: %w", err)
		}
	}
	return syncDir(filepath.Dir(path))
}

func openDB(path string) (*bolt.DB, error) {
	// The free list is kept in the file. Without it the database would look for
	// free pages by a walk over all of them in a goroutine of its own, where a
	// damaged page ends the process.
	var db *bolt.DB
	err := guard(path, func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType})
		return err
	})
	var damaged *StoreError
	switch {
	case errors.As(err, &damaged):
		return nil, err
	case err == nil:
		return db, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, &StoreError{Path: path, Kind: ErrStoreBusy}
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, &StoreError{Path: path, Kind: ErrStoreDamaged, Err: err}
	}
	return nil, fmt.Errorf("open lease store: %w", err)
}

// inspect reads the two meta pages of the file before the database maps it: a
// file shorter than it says it is would fault when its missing pages are read.
func inspect(path string) error {
	info, err := os.Stat(path) // first: to open a pipe would wait for its other end
	if err != nil {
		return fmt.Errorf("open lease store: %w", err)
	}
	if !info.Mode().IsRegular() {
		return &StoreError{Path: path, Kind: ErrStoreDamaged, Err: fmt.Errorf("it is not a regular file (%s)", info.Mode().Type())}
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open lease store: %w", err)
	}
	defer f.Close()
	need, ok := int64(0), false
	txid := uint64(0)
	pages := []int64{0}
	for i := 0; i < len(pages); i++ {
		m, err := readMeta(f, pages[i])
		if err != nil {
			return fmt.Errorf("read lease store %s: %w", path, err)
		}
		if i == 0 {
			// The second one is a page further on; which page size it is only
			// the first one knows.
			for size := int64(1 << 10); size <= 1<<16; size <<= 1 {
				if m == nil || int64(m.pageSize) == size {
					pages = append(pages, size)
				}
			}
		}
		if m != nil && (!ok || m.txid > txid) {
			need, txid, ok = int64(m.pages)*int64(m.pageSize), m.txid, true
		}
	}
	// Another program may hold the file and make it grow: its size is read after
	// what the header says of it.
	if info, err = f.Stat(); err != nil {
		return fmt.Errorf("open lease store: %w", err)
	}
	switch {
	case !ok:
		return &StoreError{Path: path, Kind: ErrStoreDamaged, Err: errors.New("it has no valid header")}
	case info.Size() < need:
		return &StoreError{Path: path, Kind: ErrStoreDamaged, Err: fmt.Errorf("%d bytes of %d are there", info.Size(), need)}
	}
	return nil
}

// metaPage is what matters of bbolt's meta page.
type metaPage struct {
	pageSize    uint32
	pages, txid uint64
}

// readMeta is the meta page at an offset, nil if there is none that is valid.
func readMeta(r io.ReaderAt, at int64) (*metaPage, error) {
	var b [80]byte // page header (16), magic, version, page size, flags, root (16), free list, pages, txid, sum
	if _, err := r.ReadAt(b[:], at); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	const magic, version = 0xED0CDAED, 2
	e := binary.NativeEndian
	h := fnv.New64a()
	h.Write(b[16:72])
	if e.Uint32(b[16:]) != magic || e.Uint32(b[20:]) != version || e.Uint64(b[72:]) != h.Sum64() {
		return nil, nil
	}
	return &metaPage{pageSize: e.Uint32(b[24:]), pages: e.Uint64(b[56:]), txid: e.Uint64(b[64:])}, nil
}

func checkFormat(tx *bolt.Tx) error {
	meta := tx.Bucket(bucketMeta)
	if meta == nil || tx.Bucket(bucketLeases) == nil || !bytes.Equal(meta.Get(keyFormat), valueFormat) {
		return errForeign
	}
	v := meta.Get(keyVersion)
	if len(v) != 4 {
		return errForeign
	}
	if binary.BigEndian.Uint32(v) > storeVersion {
		return errNewer
	}
	return nil
}

var (
	errForeign = errors.New("it is a database of another program")
	errNewer   = errors.New("format is newer than this program's")
)

type boltStore struct {
	path string
	db   *bolt.DB

	mu    sync.Mutex // one Commit at a time; holds what it reuses
	order []int
	arena []byte
}

// guard turns the database's way of saying that its file is damaged, a panic
// or a fault on a page that is not there, into an error.
func guard(path string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = &StoreError{Path: path, Kind: ErrStoreDamaged, Err: fmt.Errorf("%v", r)}
		}
	}()
	err = f()
	switch {
	case errors.Is(err, errForeign):
		return &StoreError{Path: path, Kind: ErrStoreDamaged, Err: err}
	case errors.Is(err, errNewer):
		return &StoreError{Path: path, Kind: ErrStoreNewer}
	}
	return err
}

func (s *boltStore) Load(segment uint32, each func(Lease) error) error {
	return s.load(bucketLeases, keyLen4, segment, each)
}

func (s *boltStore) Load6(segment uint32, each func(Lease) error) error {
	return s.load(bucketLeases6, keyLen6, segment, each)
}

func (s *boltStore) load(family []byte, keyLen int, segment uint32, each func(Lease) error) error {
	return guard(s.path, func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			key := put4(segment)
			b := tx.Bucket(family)
			if b != nil {
				b = b.Bucket(key[:])
			}
			if b == nil {
				return nil
			}
			return b.ForEach(func(k, v []byte) error {
				if len(k) != keyLen {
					return s.damaged(segment, errLeaseKey)
				}
				l, err := decodeLease(segment, k, v)
				if errors.Is(err, errLeaseVersion) {
					return &StoreError{Path: s.path, Kind: ErrStoreNewer, Err: err}
				}
				if err != nil {
					return s.damaged(segment, err)
				}
				return each(l)
			})
		})
	})
}

func (s *boltStore) damaged(segment uint32, err error) error {
	return &StoreError{Path: s.path, Kind: ErrStoreDamaged, Err: fmt.Errorf("segment %d: %w", segment, err)}
}

// Commit writes in the order of the keys, so that neighbours share a page, and
// of several changes of an address only the last.
func (s *boltStore) Commit(changes []Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = s.order[:0]
	for i := range changes {
		s.order = append(s.order, i)
	}
	slices.SortStableFunc(s.order, func(a, b int) int {
		x, y := &changes[a], &changes[b]
		if x.Segment != y.Segment {
			return int(x.Segment) - int(y.Segment)
		}
		// IPv4 comes first: an address without a prefix is the shorter one.
		if c := x.Lease.IP.Compare(y.Lease.IP); c != 0 {
			return c
		}
		return int(x.Lease.PrefixLen) - int(y.Lease.PrefixLen)
	})
	s.arena = s.arena[:0]
	err := guard(s.path, func() error {
		return s.db.Update(func(tx *bolt.Tx) error { return s.write(tx, changes) })
	})
	if err != nil {
		return fmt.Errorf("write lease store %s: %w", s.path, err)
	}
	return nil
}

func (s *boltStore) write(tx *bolt.Tx, changes []Change) error {
	var (
		bucket  *bolt.Bucket
		segment uint32
		four    bool
	)
	for i, at := range s.order {
		c := &changes[at]
		if i+1 < len(s.order) {
			next := &changes[s.order[i+1]]
			if next.Segment == c.Segment && next.Lease.IP == c.Lease.IP && next.Lease.PrefixLen == c.Lease.PrefixLen {
				continue
			}
		}
		if bucket == nil || c.Segment != segment || c.Lease.IP.Is4() != four {
			segment, four = c.Segment, c.Lease.IP.Is4()
			var err error
			if bucket, err = segmentBucket(tx, segment, four); err != nil {
				return err
			}
		}
		key := keyOf(&c.Lease)
		if c.Delete {
			if err := bucket.Delete(key.bytes()); err != nil {
				return err
			}
			continue
		}
		// The database reads the value when the transaction ends; growing the
		// arena leaves earlier values where they are.
		from := len(s.arena)
		s.arena = appendLease(s.arena, c.Segment, &c.Lease)
		if err := bucket.Put(key.bytes(), s.arena[from:len(s.arena):len(s.arena)]); err != nil {
			return err
		}
	}
	return nil
}

// segmentBucket is where the leases of a segment go; it is made if need be.
func segmentBucket(tx *bolt.Tx, segment uint32, four bool) (*bolt.Bucket, error) {
	key := put4(segment)
	if four {
		return tx.Bucket(bucketLeases).CreateBucketIfNotExists(key[:])
	}
	family, err := tx.CreateBucketIfNotExists(bucketLeases6)
	if err != nil {
		return nil, err
	}
	return family.CreateBucketIfNotExists(key[:])
}

func (s *boltStore) Close() error { return s.db.Close() }
