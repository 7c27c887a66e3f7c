package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

// requestTimeout is how long the client waits for an answer: longer than any
// reload takes.
const requestTimeout = time.Minute

// maxAnswer is the longest answer that is read, bytes: an FDB of 16 million
// entries is longer than anyone can use.
const maxAnswer = 1 << 30

// Client talks to a daemon over its unix socket. VNI 0 asks for all segments.
// Errors are one line for people; those of the daemon are ErrNotFound,
// ErrConflict or ErrInvalid by errors.Is, a refused configuration is
// *InvalidConfig.
type Client struct {
	socket string
	http   http.Client
}

// NewClient makes a client of the daemon whose socket is at path. Nothing is
// connected before the first request.
func NewClient(path string) *Client {
	var d net.Dialer
	return &Client{socket: path, http: http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return d.DialContext(ctx, "unix", path)
			},
		},
	}}
}

// Segments and the methods after it are the API's lists, in its order.
func (c *Client) Segments(ctx context.Context, vni encap.VNI) ([]Segment, error) {
	return get[Segment](ctx, c, "/segments", vni)
}

func (c *Client) Ports(ctx context.Context, vni encap.VNI) ([]Port, error) {
	return get[Port](ctx, c, "/ports", vni)
}

func (c *Client) FDB(ctx context.Context, vni encap.VNI) ([]FDBEntry, error) {
	return get[FDBEntry](ctx, c, "/fdb", vni)
}

func (c *Client) Peers(ctx context.Context, vni encap.VNI) ([]Peer, error) {
	return get[Peer](ctx, c, "/peers", vni)
}

func (c *Client) Leases(ctx context.Context, vni encap.VNI) ([]Lease, error) {
	return get[Lease](ctx, c, "/leases", vni)
}

func (c *Client) Neighbours(ctx context.Context, vni encap.VNI) ([]Neighbour, error) {
	return get[Neighbour](ctx, c, "/neighbours", vni)
}

func (c *Client) DHCP(ctx context.Context, vni encap.VNI) ([]DHCPServer, error) {
	return get[DHCPServer](ctx, c, "/dhcp", vni)
}

func (c *Client) Drops(ctx context.Context, vni encap.VNI) ([]Drop, error) {
	return get[Drop](ctx, c, "/drops", vni)
}

func (c *Client) Workers(ctx context.Context) ([]Worker, error) {
	return get[Worker](ctx, c, "/workers", 0)
}

// AddFDB binds a MAC statically.
func (c *Client) AddFDB(ctx context.Context, vni encap.VNI, mac fdb.MAC, to StaticTarget) error {
	return c.do(ctx, http.MethodPut, segmentPath(vni, "fdb", mac.String()), to, nil)
}

// DeleteFDB removes an entry, static or learned.
func (c *Client) DeleteFDB(ctx context.Context, vni encap.VNI, mac fdb.MAC) error {
	return c.do(ctx, http.MethodDelete, segmentPath(vni, "fdb", mac.String()), nil, nil)
}

// FlushFDB removes the learned entries and returns how many there were.
func (c *Client) FlushFDB(ctx context.Context, vni encap.VNI) (int, error) {
	var out Flushed
	err := c.do(ctx, http.MethodDelete, segmentPath(vni, "fdb"), nil, &out)
	return out.Count, err
}

// AddPeer adds to the head-end replication list.
func (c *Client) AddPeer(ctx context.Context, vni encap.VNI, dst netip.Addr) error {
	return c.do(ctx, http.MethodPut, segmentPath(vni, "peers", dst.String()), nil, nil)
}

// DeletePeer removes from the head-end replication list.
func (c *Client) DeletePeer(ctx context.Context, vni encap.VNI, dst netip.Addr) error {
	return c.do(ctx, http.MethodDelete, segmentPath(vni, "peers", dst.String()), nil, nil)
}

// AddSegment adds a segment without ports.
func (c *Client) AddSegment(ctx context.Context, vni encap.VNI, s NewSegment) error {
	return c.do(ctx, http.MethodPut, segmentPath(vni), s, nil)
}

// DeleteSegment takes a segment away, with its ports.
func (c *Client) DeleteSegment(ctx context.Context, vni encap.VNI) error {
	return c.do(ctx, http.MethodDelete, segmentPath(vni), nil, nil)
}

// AddPort adds a port to a segment.
func (c *Client) AddPort(ctx context.Context, vni encap.VNI, p NewPort) error {
	return c.do(ctx, http.MethodPost, segmentPath(vni, "ports"), p, nil)
}

// DeletePort takes a port away from a segment.
func (c *Client) DeletePort(ctx context.Context, vni encap.VNI, name string) error {
	return c.do(ctx, http.MethodDelete, segmentPath(vni, "ports", name), nil, nil)
}

// ReleaseLease takes a lease back or, where nobody has one, removes a reservation
// that ReserveLease made.
func (c *Client) ReleaseLease(ctx context.Context, vni encap.VNI, ip netip.Addr) error {
	return c.do(ctx, http.MethodDelete, segmentPath(vni, "leases", ip.String()), nil, nil)
}

// ReserveLease keeps an address for a client.
func (c *Client) ReserveLease(ctx context.Context, vni encap.VNI, ip netip.Addr, r Reservation) (Reserved, error) {
	var out Reserved
	err := c.do(ctx, http.MethodPut, segmentPath(vni, "leases", ip.String()), r, &out)
	return out, err
}

// Reload makes the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	var out Reloaded
	err := c.do(ctx, http.MethodPost, "/reload", nil, &out)
	return out, err
}

func segmentPath(vni encap.VNI, parts ...string) string {
	p := "/segments/" + vni.String()
	for _, s := range parts {
		p += "/" + url.PathEscape(s)
	}
	return p
}

func get[T any](ctx context.Context, c *Client, path string, vni encap.VNI) ([]T, error) {
	if vni != 0 {
		path += "?vni=" + strconv.FormatUint(uint64(vni), 10)
	}
	out := []T{}
	return out, c.do(ctx, http.MethodGet, path, nil, &out)
}

// do sends in, unless nil, and reads the answer into out, unless nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var send io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("write the request: %w", err)
		}
		send = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://uvtep"+prefix+path, send)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of uvtep on %s: %w", c.socket, err)
	}
	if resp.StatusCode >= 300 {
		return c.refused(resp, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("read the answer of uvtep on %s: %w", c.socket, err)
	}
	return nil
}

// unprocessable is either a configuration that a reload refused, or a request
// with a wrong field: the fields are named by their place in the request.
func unprocessable(text string, details []*huma.ErrorDetail) error {
	bad := &InvalidConfig{}
	for _, d := range details {
		if d.Location != "" {
			_, field, _ := strings.Cut(d.Location, ".")
			return Errorf(ErrInvalid, "%s: %s", cmp.Or(field, d.Location), d.Message)
		}
		bad.Faults = append(bad.Faults, d.Message)
	}
	if len(bad.Faults) == 0 {
		return Errorf(ErrInvalid, "%s", text)
	}
	return bad
}

func (c *Client) unreachable(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without the URL, which nobody has typed
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no uvtep answers on %s; start one with uvtep run, or name its socket with --socket", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("not permitted to talk to uvtep on %s; become root or a member of the socket's group", c.socket)
	}
	var wrong *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("talk to uvtep on %s: %w", c.socket, err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("uvtep on %s does not answer within %v; its log says what it does", c.socket, requestTimeout)
	case errors.As(err, &wrong) && wrong.Op == "dial":
		return fmt.Errorf("talk to uvtep on %s: %w; choose the socket with --socket", c.socket, reason(err))
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("what answers on %s hangs up: a uvtep that stops, or no uvtep; choose the socket with --socket", c.socket)
	}
	return fmt.Errorf("what answers on %s is no uvtep; choose the socket with --socket", c.socket)
}

// refused is the daemon's error.
func (c *Client) refused(resp *http.Response, data []byte) error {
	var p huma.ErrorModel
	if err := json.Unmarshal(data, &p); err != nil || p.Detail == "" && p.Title == "" {
		return fmt.Errorf("what answers on %s is no uvtep, or an older one (%s); choose the socket with --socket", c.socket, resp.Status)
	}
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return Errorf(ErrNotFound, "%s", text)
	case http.StatusConflict:
		return Errorf(ErrConflict, "%s", text)
	case http.StatusBadRequest:
		return Errorf(ErrInvalid, "%s", text)
	case http.StatusUnprocessableEntity:
		return unprocessable(text, p.Errors)
	}
	return errors.New(text)
}
