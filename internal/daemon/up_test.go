package daemon_test

import (
	"reflect"
	"testing"

	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/daemon"
	"github.com/uvtep/uvtep/internal/observe"
)

func TestFaultsOfFlagsNameFlagsOnly(t *testing.T) {
	for _, tc := range []struct {
		up   daemon.Up
		want string
	}{
		{daemon.Up{Local: "10.9.0.1", VNI: 100, Port: 4789, Peers: []string{"10.9.0.1"}}, "--peer: 10.9.0.1 is this VTEP's own address, --local"},
		{daemon.Up{Local: "10.9.0.1", VNI: 100, Port: 4789, Peers: []string{"::1"}}, "--peer: ::1 is IPv6, but --local is IPv4"},
		{daemon.Up{Local: "10.9.0.1", VNI: 100, Port: 4789, Peers: []string{"10.9.0.2", "10.9.0.2"}}, "--peer: 10.9.0.2 is listed twice, also as --peer"},
		{daemon.Up{Local: "10.9.0.1", VNI: 0, Port: 0}, "--port: 0 is outside 1..65535; --vni: 0 is outside 1..16777215"},
		{daemon.Up{Local: "10.9.0.1", VNI: 100, Port: 4789, HTTP: new("0.0.0.0:80")}, "--http: 0.0.0.0 is not a loopback address: the HTTP API has no passwords and stays on the host"},
	} {
		if _, err := tc.up.Config(); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

func TestThePrintedConfigurationIsAllThatTheFlagsSay(t *testing.T) {
	for _, tc := range []struct {
		http           *string
		socket         string
		wantHTTP       string
		explicit, sock bool
	}{
		{nil, "", config.DefaultHTTP, false, false},
		{new(""), "/run/x.sock", "", true, true},
		{new("127.0.0.1:1"), "", "127.0.0.1:1", true, false},
	} {
		u := daemon.Up{Local: "10.9.0.1", VNI: 100, Port: 4789, Socket: tc.socket, HTTP: tc.http}
		c, err := u.Config()
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Parse("printed", c.YAML())
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("it is not what was printed: %v\n%s", err, c.YAML())
		}
		want := config.API{Socket: config.DefaultSocket, SocketExplicit: tc.sock, HTTP: tc.wantHTTP, HTTPExplicit: tc.explicit}
		if tc.socket != "" {
			want.Socket = tc.socket
		}
		if c.API != want {
			t.Errorf("got %+v, want %+v", c.API, want)
		}
		// Only the default socket may give way to another.
		if o := u.Options(c, nil, observe.Build{}); (o.SocketIfTaken == "") != tc.sock || o.Socket != "" {
			t.Errorf("%q: sockets %q and, if taken, %q", tc.socket, o.Socket, o.SocketIfTaken)
		}
	}
}
