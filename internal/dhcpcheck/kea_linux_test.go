package dhcpcheck

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/uvtep/uvtep/internal/verdict"
)

// kea is Debian's kea-dhcp4, with the lease file that it comes with.
type kea struct{}

type keaRun struct {
	*cable
	process
	dir  string
	conf map[string]any
}

// object and list make JSON.
type (
	object = map[string]any
	list   = []any
)

func (kea) start(t *testing.T, in *intent) *world {
	t.Helper()
	r := &keaRun{dir: t.TempDir()}
	r.conf = keaConfig(in, r.dir)
	r.cable = newCable(t)
	w := &world{instance: r, wire: openWire(t, r.clients, "cli")}
	if in.tenants {
		r.link(t, "srv2", "cli2")
		w.second = openWire(t, r.clients, "cli2")
	}
	r.write()
	r.process = process{t: t, ns: r.cable.ns, ready: "DHCP4_STARTED", reason: "reason: ", command: func() *exec.Cmd {
		cmd := exec.Command("kea-dhcp4", "-c", r.file())
		cmd.Env = append(os.Environ(), "KEA_PIDFILE_DIR="+r.dir, "KEA_LOCKFILE_DIR="+r.dir, "KEA_LOGGER_DESTINATION=stderr")
		return cmd
	}}
	t.Cleanup(func() { r.finish(syscall.SIGTERM) })
	if why := r.begin(); why != "" {
		panic(refused{why})
	}
	return w
}

func (r *keaRun) file() string { return filepath.Join(r.dir, "kea.json") }

func (r *keaRun) write() {
	b, err := json.Marshal(object{"Dhcp4": r.conf})
	if err == nil {
		err = os.WriteFile(r.file(), b, 0o644)
	}
	if err != nil {
		verdict.Fail("%v", err)
	}
}

// keaConfig writes an intent as Kea's configuration.
func keaConfig(in *intent, dir string) object {
	if in.rapidCommit {
		verdict.Cannot("not for IPv4")
	}
	if in.probe {
		verdict.Cannot("not in this version")
	}
	first, last := in.pool()
	main := object{
		"id": 1, "subnet": subnet.String(), "pools": list{object{"pool": fmt.Sprintf("%s-%s", first, last)}},
		"option-data": keaOptions(append([]option{optAddr(3, routerIP), optAddr(6, dnsIPs...), optText(15, domain)}, in.options...)),
	}
	if len(in.routes) > 0 {
		var b []byte
		for _, r := range append(in.routes, route{netip.MustParsePrefix("0.0.0.0/0"), routerIP}) {
			n := r.to.Bits()
			b = append(append(append(b, byte(n)), r.to.Addr().AsSlice()[:(n+7)/8]...), r.via.AsSlice()...)
		}
		main["option-data"] = append(main["option-data"].(list), keaOption(option{121, b}))
	}
	var hosts list
	for _, h := range in.reservations() {
		hosts = append(hosts, keaHost(h))
	}
	main["reservations"] = hosts
	subnets := list{main}
	if in.relay {
		subnets = append(subnets, object{
			"id": 2, "subnet": branch.String(), "pools": list{object{"pool": fmt.Sprintf("%s-%s", branchIPs[0], branchIPs[1])}},
			"option-data": keaOptions([]option{optAddr(3, relayIP)}),
		})
	}
	interfaces := list{"srv"}
	if in.tenants {
		interfaces = append(interfaces, "srv2")
		main["interface"] = "srv"
		subnets = append(subnets, object{"id": 3, "interface": "srv2", "subnet": main["subnet"], "pools": main["pools"]})
	}
	conf := object{
		"interfaces-config": object{"interfaces": interfaces, "dhcp-socket-type": "raw"},
		"lease-database":    object{"type": "memfile", "persist": true, "name": filepath.Join(dir, "leases.csv"), "lfc-interval": 0},
		"control-socket":    object{"socket-type": "unix", "socket-name": filepath.Join(dir, "ctl")},
		"valid-lifetime":    in.seconds(), "calculate-tee-times": true,
		"authoritative":                in.sole || in.authoritative,
		"host-reservation-identifiers": list{"hw-address", "client-id"},
		"ddns-qualifying-suffix":       domain, "ddns-send-updates": false, "store-extended-info": true,
		"expired-leases-processing": object{"reclaim-timer-wait-time": 1},
		"subnet4":                   subnets,
		"hooks-libraries":           keaHooks(in),
		"loggers":                   list{object{"name": "kea-dhcp4", "severity": "INFO", "output_options": list{object{"output": "stderr", "flush": true}}}},
	}
	if len(in.classes) > 0 {
		conf["client-classes"] = keaClasses(in.classes)
	}
	return conf
}

// keaHooks are the libraries that Debian ships and that an intent needs.
func keaHooks(in *intent) list {
	names := []string{"lease_cmds"}
	if in.bootp {
		names = append(names, "bootp")
	}
	var all list
	for _, n := range names {
		found, _ := filepath.Glob("/usr/lib/*/kea/hooks/libdhcp_" + n + ".so")
		if len(found) == 0 {
			verdict.Cannot("the hook %s is not packaged", n)
		}
		all = append(all, object{"library": found[0]})
	}
	return all
}

func keaOption(o option) object {
	return object{"code": o.code, "space": "dhcp4", "csv-format": false, "data": hex.EncodeToString(o.data)}
}

func keaOptions(all []option) list {
	l := list{}
	for _, o := range all {
		l = append(l, keaOption(o))
	}
	return l
}

func keaHost(h host) object {
	o := object{"ip-address": h.ip.String()}
	switch {
	case h.port:
		verdict.Cannot("a server on the network sees no ports")
	case h.named != "":
		verdict.Cannot("not by the name that a client sends")
	case h.id != nil:
		o["client-id"] = hex.EncodeToString(h.id)
	default:
		o["hw-address"] = h.mac.String()
	}
	if h.name != "" {
		o["hostname"] = h.name
	}
	return o
}

func keaClasses(classes []class) list {
	l := list{}
	for i, c := range classes {
		o := object{"name": fmt.Sprintf("c%d", i), "option-data": keaOptions(c.options)}
		switch c.by {
		case byVendor:
			o["test"] = fmt.Sprintf("substring(option[60].hex,0,%d) == '%s'", len(c.match), c.match)
		case byUser: // as RFC 3004 has it, and as iPXE does
			o["test"] = fmt.Sprintf("option[77].hex == '%s' or option[77].hex == 0x%02x%x", c.match, len(c.match), c.match)
		case byCircuit:
			o["test"] = fmt.Sprintf("relay4[1].hex == '%s'", c.match)
		case byArch:
			o["test"] = fmt.Sprintf("option[93].hex == 0x%04x", c.arch)
		}
		for _, opt := range c.options {
			switch opt.code {
			case 66:
				o["next-server"] = string(opt.data)
			case 67:
				o["boot-file-name"] = string(opt.data)
			}
		}
		l = append(l, o)
	}
	return l
}

func (r *keaRun) warned(a netip.Addr) bool {
	for _, line := range append(linesWith(r.log(), " WARN "), linesWith(r.log(), " ERROR ")...) {
		if names(line, a) {
			return true
		}
	}
	return false
}

// reserve and unreserve rewrite the configuration and have it read again: the
// commands for single reservations are not in Debian's packages.
func (r *keaRun) reserve(h host) {
	main := r.main()
	main["reservations"] = append(main["reservations"].(list), keaHost(h))
	r.reread()
}

func (r *keaRun) unreserve(host) (takes string) {
	main := r.main()
	all := main["reservations"].(list)
	main["reservations"] = all[:len(all)-1]
	r.reread()
	return "by reading the whole configuration again"
}

func (r *keaRun) main() object { return r.conf["subnet4"].(list)[0].(object) }

func (r *keaRun) reread() {
	r.write()
	r.ask("config-reload", nil)
}

func (r *keaRun) free(a netip.Addr) { r.ask("lease4-del", object{"ip-address": a.String()}) }

// ask has Kea do something, through its control socket.
func (r *keaRun) ask(command string, arguments object) {
	c, err := net.Dial("unix", filepath.Join(r.dir, "ctl"))
	if err != nil {
		verdict.Fail("%v", err)
	}
	defer c.Close()
	if err := json.NewEncoder(c).Encode(object{"command": command, "arguments": arguments}); err != nil {
		verdict.Fail("%v", err)
	}
	b, err := io.ReadAll(c)
	var answer struct {
		Result int
		Text   string
	}
	if err == nil {
		err = json.Unmarshal(b, &answer)
	}
	if err != nil || answer.Result != 0 {
		verdict.Fail("%s: %v %s", command, err, strings.TrimSpace(answer.Text))
	}
}
