package control

import (
	"context"
	"errors"
	"net/http"
	"net/netip"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

// prefix is part of every path; an incompatible API would get another.
const prefix = "/v1"

// newAPI puts an API without operations on mux. It serves its description at
// /openapi.json and loads nothing from elsewhere.
func newAPI(mux *http.ServeMux, version string) huma.API {
	cfg := huma.DefaultConfig("uvtep", version)
	cfg.Info.Description = "The control API of uvtep, a userspace VXLAN VTEP with a DHCP server."
	cfg.DocsPath = ""
	cfg.SchemasPath = ""
	cfg.CreateHooks = nil
	cfg.RejectUnknownQueryParameters = true
	return humago.New(mux, cfg)
}

type body[T any] struct{ Body T }

type everything struct{}

type filter struct {
	VNI encap.VNI `query:"vni" minimum:"1" maximum:"16777215" doc:"this segment only"`
}

// The inputs repeat their fields: huma looks into no embedded struct that is not
// exported.
type inSegment struct {
	VNI encap.VNI `path:"vni" minimum:"1" maximum:"16777215"`
}

type atMAC struct {
	VNI encap.VNI `path:"vni" minimum:"1" maximum:"16777215"`
	MAC macParam  `path:"mac" doc:"hardware address, such as 02:00:00:00:00:01"`
}

type atPeer struct {
	VNI encap.VNI  `path:"vni" minimum:"1" maximum:"16777215"`
	Dst netip.Addr `path:"dst" doc:"remote VTEP"`
}

type atPort struct {
	VNI  encap.VNI `path:"vni" minimum:"1" maximum:"16777215"`
	Name string    `path:"name" doc:"the port's name: its TAP device"`
}

type atIP struct {
	VNI encap.VNI  `path:"vni" minimum:"1" maximum:"16777215"`
	IP  netip.Addr `path:"ip" doc:"address of the lease, or the first of a prefix"`
}

// macParam is a MAC in a path. fdb.MAC is an integer underneath, and huma would
// read it as one.
type macParam struct{ fdb.MAC }

func (*macParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString}
}

func operation(method, path, id, summary string) huma.Operation {
	return huma.Operation{Method: method, Path: prefix + path, OperationID: id, Summary: summary}
}

// registerReads adds what changes nothing.
func registerReads(api huma.API, r Reader) {
	list(api, "/segments", "list-segments", "Segments", r.Segments)
	list(api, "/ports", "list-ports", "Ports and their counters", r.Ports)
	list(api, "/fdb", "list-fdb", "Forwarding databases", r.FDB)
	list(api, "/neighbours", "list-neighbours", "Who has which address, where requests for it are answered", r.Neighbours)
	list(api, "/peers", "list-peers", "Remote VTEPs and their counters", r.Peers)
	list(api, "/leases", "list-leases", "DHCP leases and reservations", r.Leases)
	list(api, "/dhcp", "list-dhcp", "DHCP servers, their pools and counters", r.DHCP)
	list(api, "/drops", "list-drops", "Dropped frames by reason", r.Drops)
	registerEvents(api, r)
	huma.Register(api, operation(http.MethodGet, "/workers", "list-workers", "Workers and their counters"),
		func(context.Context, *everything) (*body[[]Worker], error) {
			return &body[[]Worker]{notNull(r.Workers())}, nil
		})
}

func list[T any](api huma.API, path, id, summary string, get func(encap.VNI) ([]T, error)) {
	huma.Register(api, operation(http.MethodGet, path, id, summary),
		func(_ context.Context, in *filter) (*body[[]T], error) {
			all, err := get(in.VNI)
			if err != nil {
				return nil, problem(err)
			}
			return &body[[]T]{notNull(all)}, nil
		})
}

func notNull[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// registerWrites adds what changes a daemon.
func registerWrites(api huma.API, b Backend) {
	huma.Register(api, operation(http.MethodPut, "/segments/{vni}/fdb/{mac}", "add-fdb", "Bind a MAC statically"),
		func(_ context.Context, in *struct {
			VNI  encap.VNI `path:"vni" minimum:"1" maximum:"16777215"`
			MAC  macParam  `path:"mac" doc:"hardware address, such as 02:00:00:00:00:01"`
			Body StaticTarget
		}) (*everything, error) {
			return nothing(b.AddFDB(in.VNI, in.MAC.MAC, in.Body))
		})
	huma.Register(api, operation(http.MethodDelete, "/segments/{vni}/fdb/{mac}", "delete-fdb", "Remove an FDB entry, static or learned"),
		func(_ context.Context, in *atMAC) (*everything, error) {
			return nothing(b.DeleteFDB(in.VNI, in.MAC.MAC))
		})
	huma.Register(api, operation(http.MethodDelete, "/segments/{vni}/fdb", "flush-fdb", "Remove the learned FDB entries"),
		func(_ context.Context, in *inSegment) (*body[Flushed], error) {
			n, err := b.FlushFDB(in.VNI)
			if err != nil {
				return nil, problem(err)
			}
			return &body[Flushed]{Flushed{n}}, nil
		})
	huma.Register(api, operation(http.MethodPut, "/segments/{vni}/peers/{dst}", "add-peer", "Replicate to a remote VTEP"),
		func(_ context.Context, in *atPeer) (*everything, error) {
			return nothing(b.AddPeer(in.VNI, in.Dst))
		})
	huma.Register(api, operation(http.MethodDelete, "/segments/{vni}/peers/{dst}", "delete-peer", "No longer replicate to a remote VTEP"),
		func(_ context.Context, in *atPeer) (*everything, error) {
			return nothing(b.DeletePeer(in.VNI, in.Dst))
		})
	huma.Register(api, operation(http.MethodPut, "/segments/{vni}", "add-segment", "Add a segment, without ports"),
		func(_ context.Context, in *struct {
			VNI  encap.VNI `path:"vni" minimum:"1" maximum:"16777215"`
			Body NewSegment
		}) (*everything, error) {
			return nothing(b.AddSegment(in.VNI, in.Body))
		})
	huma.Register(api, operation(http.MethodDelete, "/segments/{vni}", "delete-segment", "Take a segment away, with its ports"),
		func(_ context.Context, in *inSegment) (*everything, error) {
			return nothing(b.DeleteSegment(in.VNI))
		})
	huma.Register(api, operation(http.MethodPost, "/segments/{vni}/ports", "add-port", "Add a port"),
		func(_ context.Context, in *struct {
			VNI  encap.VNI `path:"vni" minimum:"1" maximum:"16777215"`
			Body NewPort
		}) (*everything, error) {
			return nothing(b.AddPort(in.VNI, in.Body))
		})
	huma.Register(api, operation(http.MethodDelete, "/segments/{vni}/ports/{name}", "delete-port", "Take a port away"),
		func(_ context.Context, in *atPort) (*everything, error) {
			return nothing(b.DeletePort(in.VNI, in.Name))
		})
	huma.Register(api, operation(http.MethodDelete, "/segments/{vni}/leases/{ip}", "release-lease", "Take a lease or a delegated prefix back, or a reservation that was made live"),
		func(_ context.Context, in *atIP) (*everything, error) {
			return nothing(b.ReleaseLease(in.VNI, in.IP))
		})
	huma.Register(api, operation(http.MethodPut, "/segments/{vni}/leases/{ip}", "reserve-lease", "Keep an address or a prefix for a client; it stays until it is released"),
		func(_ context.Context, in *struct {
			VNI  encap.VNI  `path:"vni" minimum:"1" maximum:"16777215"`
			IP   netip.Addr `path:"ip" doc:"address of the lease"`
			Body Reservation
		}) (*body[Reserved], error) {
			done, err := b.ReserveLease(in.VNI, in.IP, in.Body)
			if err != nil {
				return nil, problem(err)
			}
			return &body[Reserved]{done}, nil
		})
	huma.Register(api, operation(http.MethodPost, "/reload", "reload", "Read the configuration again: all of it or nothing"),
		func(ctx context.Context, _ *everything) (*body[Reloaded], error) {
			changes, err := b.Reload(ctx)
			if err != nil {
				return nil, problem(err)
			}
			return &body[Reloaded]{Reloaded{notNull(changes)}}, nil
		})
}

func nothing(err error) (*everything, error) {
	if err != nil {
		return nil, problem(err)
	}
	return nil, nil
}

// problem is err as RFC 9457 has it.
func problem(err error) error {
	if bad := (*InvalidConfig)(nil); errors.As(err, &bad) {
		faults := make([]error, len(bad.Faults))
		for i, f := range bad.Faults {
			faults[i] = errors.New(f)
		}
		return huma.Error422UnprocessableEntity("the configuration is not valid", faults...)
	}
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrConflict):
		status = http.StatusConflict
	case errors.Is(err, ErrInvalid):
		status = http.StatusBadRequest
	}
	return huma.NewError(status, err.Error())
}
