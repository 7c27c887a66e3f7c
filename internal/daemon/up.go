package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/observe"
)

// Up is one segment, as the flags of `uvtep up` describe it. Values are as they
// were typed.
type Up struct {
	Local  string
	VNI    int64
	Peers  []string
	Group  string // its senders are not known beforehand: accepts packets from everyone
	Device string
	Port   int64
	TAP    string // "" = tap and the VNI
	NetNS  string
	Bridge string
	DHCP   string // subnet; "" = no server
	Socket string // control socket; "" = the default, or one of its own where that is taken
	// HTTP is the address of the metrics and the read-only API, "" = off; nil is
	// the default, unless that is taken.
	HTTP *string
}

// upDir is where `uvtep up` keeps what must outlive it, by its local address:
// several may run on one machine, as in network namespaces.
const upDir = config.DefaultState + "/up-"

// Config is the configuration that the flags stand for. An error names the flag.
func (u Up) Config() (*config.Config, error) {
	type item = yaml.MapItem
	var underlay, api, segment, port yaml.MapSlice
	set := func(m *yaml.MapSlice, key string, v any) { *m = append(*m, item{Key: key, Value: v}) }

	set(&underlay, "local", u.Local)
	set(&underlay, "port", u.Port)
	if u.Device != "" {
		set(&underlay, "device", u.Device)
	}
	if u.Group != "" {
		set(&underlay, "accept", string(config.AcceptAny))
	}
	tap := u.TAP
	if tap == "" {
		tap = "tap" + strconv.FormatInt(u.VNI, 10)
	}
	set(&port, "tap", tap)
	if u.NetNS != "" {
		set(&port, "netns", u.NetNS)
	}
	if u.Bridge != "" {
		set(&port, "bridge", u.Bridge)
	}
	set(&segment, "vni", u.VNI)
	if len(u.Peers) > 0 {
		set(&segment, "peers", u.Peers)
	}
	if u.Group != "" {
		set(&segment, "group", u.Group)
	}
	set(&segment, "ports", []yaml.MapSlice{port})
	if u.DHCP != "" {
		set(&segment, "dhcp", u.DHCP)
	}
	if u.Socket != "" {
		set(&api, "socket", u.Socket)
	}
	if u.HTTP != nil {
		set(&api, "http", *u.HTTP)
	}
	file := yaml.MapSlice{{Key: "underlay", Value: underlay}, {Key: "state", Value: upDir + u.Local}}
	if len(api) > 0 {
		set(&file, "api", api)
	}
	set(&file, "segments", []yaml.MapSlice{segment})
	text, err := yaml.Marshal(file)
	if err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	c, err := config.ParseSpelt(text, flagOf)
	if faults := (config.Faults)(nil); errors.As(err, &faults) {
		return nil, flagErrors(faults)
	}
	return c, err
}

// Options run the segment. Unless a control socket is asked for, several of these
// run side by side: the first has the default socket, others one of their own.
func (u Up) Options(c *config.Config, log *slog.Logger, b observe.Build) Options {
	o := Options{Config: c, Logger: log, Build: b}
	if u.Socket == "" {
		o.SocketIfTaken = "/run/uvtep/up-" + u.Local + ".sock"
	}
	return o
}

// flagErrors says of each fault which flag is meant.
func flagErrors(faults config.Faults) error {
	var lines []string
	for _, f := range faults {
		lines = append(lines, flagOf(f.Path)+": "+f.Msg)
	}
	return errors.New(strings.Join(lines, "; "))
}

func flagOf(path string) string {
	for _, f := range []struct{ path, flag string }{
		{"underlay.local", "--local"}, {"underlay.port", "--port"}, {"underlay.device", "--dev"},
		{"segments[0].vni", "--vni"}, {"segments[0].peers", "--peer"}, {"segments[0].group", "--group"},
		{"segments[0].ports[0].netns", "--netns"}, {"segments[0].ports[0].bridge", "--bridge"},
		{"segments[0].ports", "--tap"}, {"segments[0].dhcp", "--dhcp"}, {"state", "--local"},
		{"api.socket", "--socket"}, {"api.http", "--http"},
	} {
		if strings.HasPrefix(path, f.path) {
			return f.flag
		}
	}
	return path
}
