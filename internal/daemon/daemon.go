package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/observe"
	"github.com/uvtep/uvtep/vtep"
)

// server is everything that runs; it is the API's backend.
type server struct {
	opts   Options
	log    *slog.Logger
	vtep   *vtep.VTEP
	leases *leaseStore
	dhcp   *dhcpd.Service
	events control.Hub

	socket net.Listener
	http   net.Listener // nil: off

	remarks []func() // of the start; they are logged once nothing can fail any more

	mu       sync.Mutex // held while the configuration changes
	cfg      *config.Config
	reserved reservations
	added    []placed         // ports that came while running, and that cfg does not list
	live     []config.Segment // segments likewise
	closed   bool
}

// Run starts what the configuration asks for, says that it is ready, and runs
// until ctx is cancelled; SIGHUP reloads. It then takes down all that it made,
// keeps the leases, and returns nil. If anything cannot be started it returns
// the error with nothing left behind; it is a *ConfigError where the
// configuration is at fault.
func Run(ctx context.Context, o Options) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	// From here on a SIGHUP no longer ends the program.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	// Nor does a reader of the log that goes away.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)

	cfg, err := o.load()
	if err != nil {
		return err
	}
	d := &server{opts: o, log: o.Logger, cfg: cfg}
	err = d.start(ctx)
	if o.ConfigPath != "" && !o.MoveDamaged && (errors.Is(err, dhcpd.ErrStoreDamaged) || errors.Is(err, errReservations)) {
		err = fmt.Errorf("%w; uvtep run --move-damaged-leases does so", err)
	}
	if err == nil && ctx.Err() == nil {
		err = d.run(ctx, hup)
	}
	if err = errors.Join(err, d.close()); err == nil {
		d.log.Info("stopped")
	}
	return err
}

// start makes everything, or what there is of it once ctx is cancelled; close
// takes that down.
func (d *server) start(ctx context.Context) error {
	if d.opts.OpenTAP == nil && hasTAP(d.cfg) {
		if err := checkRights(); err != nil {
			return err
		}
	}
	if err := d.listen(); err != nil {
		return err
	}
	var err error
	d.leases = newLeaseStore(d.cfg.State)
	if d.opts.MoveDamaged {
		if err := d.moveDamaged(); err != nil {
			return err
		}
	}
	if err := d.reserved.load(d.cfg.State); err != nil {
		return err
	}
	if d.dhcp, err = dhcpd.NewService(dhcpd.Config{Store: d.leases, Logger: d.log, Events: d.tellDHCP}); err != nil {
		return err
	}
	vc := vtepConfig(d.cfg)
	vc.Logger, vc.DHCP, vc.OpenTAP, vc.Events = d.log, d.dhcp, d.opts.tapOpener(), d.tellVTEP
	vc.OpenUnderlay = d.opts.underlayOpener(d.cfg.Underlay.SourcePorts)
	if d.vtep, err = vtep.New(vc); err != nil {
		return err
	}
	// Workers in the middle of traffic never rest; leases and the API must not
	// wait for one of them to be preempted.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), len(d.vtep.Stats().Workers)+2))
	var t transaction // nothing to undo: close does
	for _, s := range d.cfg.Segments {
		if ctx.Err() != nil {
			return nil
		}
		if err := d.addSegment(&t, s); err != nil {
			return err
		}
		for _, p := range s.Ports {
			if ctx.Err() != nil {
				return nil
			}
			if err := d.attach(&t, placed{vni: s.VNI, port: p}); err != nil {
				return err
			}
		}
	}
	for _, q := range inOrder(sharedPortsOf(d.cfg)) {
		if ctx.Err() != nil {
			return nil
		}
		if err := d.attach(&t, q); err != nil {
			return err
		}
	}
	d.reserved.apply(d.serverOf, d.log)
	return nil
}

// serverOf is dhcpServer, nil where there is none.
func (d *server) serverOf(vni uint32, ip netip.Addr) leaseServer {
	srv, err := d.dhcpServer(encap.VNI(vni), ip)
	if err != nil {
		return nil
	}
	return srv
}

// listen opens the control socket, by which another daemon is noticed before
// anything is touched, and the HTTP address.
func (d *server) listen() error {
	path := d.cfg.API.Socket
	if d.opts.Socket != "" {
		path = d.opts.Socket
	}
	l, err := control.Listen(path)
	if errors.Is(err, control.ErrInUse) && d.opts.SocketIfTaken != "" {
		d.remarks = append(d.remarks, func() {
			d.log.Info("another uvtep has the default control socket", "taken", path, "socket", d.opts.SocketIfTaken)
		})
		l, err = control.Listen(d.opts.SocketIfTaken)
	}
	if err != nil {
		return err
	}
	d.socket = l
	if d.cfg.API.HTTP == "" {
		return nil
	}
	l, err = control.ListenTCP(d.cfg.API.HTTP)
	switch {
	case err == nil:
		d.http = l
	case d.cfg.API.HTTPExplicit:
		return err
	default:
		d.remarks = append(d.remarks, func() { d.log.Warn("no metrics: "+err.Error(), "http", d.cfg.API.HTTP) })
	}
	return nil
}

// run carries frames and answers requests until ctx is cancelled.
func (d *server) run(ctx context.Context, hup <-chan os.Signal) error {
	summary := d.summary() // before anything can change it
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, d.events.Close)() // nobody who listens holds up the end
	// Frames are carried until the last commit of leases has been answered.
	carrying, rest := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { return d.vtep.Run(carrying) })
	g.Go(func() error {
		defer rest()
		return d.dhcp.Run(ctx)
	})
	g.Go(func() error {
		return control.Serve(ctx, d.socket, control.Handler(d, d.opts.Build.Version), d.log)
	})
	if d.http != nil {
		h := control.ReadOnlyHandler(d, observe.Metrics(d, d.opts.Build), d.opts.Build.Version)
		g.Go(func() error { return control.Serve(ctx, d.http, h, d.log) })
	}
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hup:
				// Reload has logged what went wrong.
				_, _ = d.Reload(ctx)
			}
		}
	})
	for _, remark := range d.remarks {
		remark()
	}
	d.log.Info("ready", summary...)
	d.notify(ready)
	err := g.Wait()
	d.notify(daemon.SdNotifyStopping)
	return err
}

func (d *server) summary() []any {
	ports, http := len(d.listed()), "off"
	if d.http != nil {
		http = d.http.Addr().String()
	}
	return []any{
		"local", d.vtep.Local(), "port", d.vtep.Port(), "segments", len(d.cfg.Segments), "ports", ports,
		"socket", d.socket.Addr(), "http", http,
	}
}

// close takes everything down, the last made first.
func (d *server) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	var errs []error
	if d.vtep != nil {
		errs = append(errs, d.vtep.Close())
	}
	if d.leases != nil {
		errs = append(errs, d.leases.Close())
	}
	for _, l := range []net.Listener{d.http, d.socket} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ready is what systemd is told once all is up, and after each reload.
const ready = daemon.SdNotifyReady

// reloading is what it is told before one (Type=notify-reload).
func reloading() string {
	return daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec()
}

// notify tells systemd, if it is there, of a new state.
func (d *server) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		d.log.Warn("systemd could not be told", "state", state, "err", err)
	}
}

// oneLine is an error of several lines on one.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
