package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/control"
)

func event(vni encap.VNI, kind string) control.Event {
	return control.Event{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), VNI: vni, Kind: kind}
}

func subscribe(t *testing.T, h *control.Hub, f control.EventFilter) *control.Subscription {
	t.Helper()
	s, err := h.Subscribe(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestReadersHearWhatTheyWant(t *testing.T) {
	for _, tc := range []struct {
		filter control.EventFilter
		want   string
	}{
		{control.EventFilter{}, "1 lease_bound, 2 lease_bound, 1 lease_expired, 1 port_up, 0 reloaded, 2 leased"},
		{control.EventFilter{VNI: 1}, "1 lease_bound, 1 lease_expired, 1 port_up"},
		{control.EventFilter{Kinds: []string{"lease"}}, "1 lease_bound, 2 lease_bound, 1 lease_expired"},
		{control.EventFilter{Kinds: []string{"lease_bound"}, VNI: 2}, "2 lease_bound"},
		{control.EventFilter{Kinds: []string{"reloaded", "port"}}, "1 port_up, 0 reloaded"},
		{control.EventFilter{Kinds: []string{"lease_b"}}, ""},
	} {
		var h control.Hub
		s := subscribe(t, &h, tc.filter)
		for _, e := range []control.Event{event(1, "lease_bound"), event(2, "lease_bound"), event(1, "lease_expired"), event(1, "port_up"), event(0, "reloaded"), event(2, "leased")} {
			h.Publish(e)
		}
		h.Close()
		var got []string
		for events, err := s.Next(t.Context()); err == nil; events, err = s.Next(t.Context()) {
			for _, e := range events {
				got = append(got, fmt.Sprintf("%v %s", e.VNI, e.Kind))
			}
		}
		if strings.Join(got, ", ") != tc.want {
			t.Errorf("%+v: heard %v, want %s", tc.filter, got, tc.want)
		}
	}
}

func TestASlowReaderHoldsNobodyUpAndIsToldWhatHeMissed(t *testing.T) {
	var h control.Hub
	slow, quick := subscribe(t, &h, control.EventFilter{}), subscribe(t, &h, control.EventFilter{})
	const n = 5000
	heard := 0
	for range n {
		h.Publish(event(1, "port_up"))
		events, err := quick.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		heard += len(events)
	}
	if heard != n {
		t.Errorf("the quick one heard %d of %d", heard, n)
	}
	total := 0
	var missed []uint64
	for total < n {
		events, err := slow.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Kind != control.EventMissed {
				total++
				continue
			}
			total += int(e.Missed)
			missed = append(missed, e.Missed)
		}
	}
	if len(missed) != 1 || total != n {
		t.Errorf("the slow one heard or missed %d of %d, told as %v", total, n, missed)
	}
	h.Publish(event(1, "port_down"))
	if events, err := slow.Next(t.Context()); err != nil || len(events) != 1 || events[0].Kind != "port_down" {
		t.Errorf("after that it hears %v, %v", events, err)
	}
}

func TestEveryEventOfManyPublishersIsHeardOrMissed(t *testing.T) {
	var h control.Hub
	s := subscribe(t, &h, control.EventFilter{})
	const publishers, each = 8, 2000
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			for range each {
				h.Publish(event(1, "port_up"))
			}
		})
	}
	for total := 0; total < publishers*each; {
		events, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			total += max(1, int(e.Missed))
		}
	}
	wg.Wait()
}

func TestThereIsAnEndToTheNumberOfReaders(t *testing.T) {
	var h control.Hub
	for range 64 {
		subscribe(t, &h, control.EventFilter{})
	}
	if _, err := h.Subscribe(control.EventFilter{}); !errors.Is(err, control.ErrTooManyReaders) {
		t.Errorf("got %v", err)
	}
	h.Close()
	if _, err := h.Subscribe(control.EventFilter{}); !errors.Is(err, control.ErrHubClosed) {
		t.Errorf("after the end: got %v", err)
	}
}

func TestAClientHearsEventsUntilTheDaemonStops(t *testing.T) {
	f := &fake{}
	c := serve(t, f)
	var got []control.Event
	begun := func() {
		f.Publish(event(1, "port_up"))
		f.Publish(control.Event{Time: time.Unix(0, 0), Kind: "lease_bound", VNI: 7, IP: &ip, MAC: mac.String()})
		f.Close()
	}
	err := c.Events(t.Context(), control.EventFilter{VNI: 7, Kinds: []string{"lease", "peer"}}, begun, func(line []byte) error {
		var e control.Event
		got = append(got, e)
		return json.Unmarshal(line, &got[len(got)-1])
	})
	if err == nil || !strings.Contains(err.Error(), "has stopped") {
		t.Errorf("at the end: %v", err)
	}
	if len(got) != 1 || got[0].Kind != "lease_bound" || *got[0].IP != ip {
		t.Errorf("heard %+v", got)
	}
	if err := c.Events(t.Context(), control.EventFilter{}, nil, nil); err == nil || !strings.Contains(err.Error(), "no more events") {
		t.Errorf("after the end: %v", err)
	}
}

func TestAClientThatHasHeardEnoughGoes(t *testing.T) {
	f := &fake{}
	c := serve(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Events(ctx, control.EventFilter{}, cancel, nil); err != nil {
		t.Errorf("cancelled: %v", err)
	}
	enough := errors.New("enough")
	err := c.Events(t.Context(), control.EventFilter{}, func() { f.Publish(event(1, "port_up")) }, func([]byte) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestAnEventIsWrittenSo(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	for _, tc := range []struct {
		e    control.Event
		want string
	}{
		{control.Event{Time: at, Kind: "port_up", VNI: 100, Port: "tap1"}, `{"time":"2026-01-02T03:04:05.0000006Z","kind":"port_up","vni":100,"port":"tap1"}`},
		{control.Event{Time: at, Kind: "reloaded", Changes: []string{"segment 100: peers"}}, `{"time":"2026-01-02T03:04:05.0000006Z","kind":"reloaded","vni":0,"changes":["segment 100: peers"]}`},
		{control.Event{Time: at, Kind: "missed", Missed: 7}, `{"time":"2026-01-02T03:04:05.0000006Z","kind":"missed","vni":0,"missed":7}`},
		{control.Event{Time: at, Kind: "peer_learned", VNI: 100, Dst: &dst6}, `{"time":"2026-01-02T03:04:05.0000006Z","kind":"peer_learned","vni":100,"dst":"2001:db8::2"}`},
		{
			control.Event{Time: at, Kind: "lease_bound", VNI: 100, IP: &ip, Length: 56, MAC: mac.String(), ClientID: "ff01", IAID: ptr(uint32(0)), Hostname: "web1", Expires: &at, Port: "tap1", VTEP: &dst, Detail: "x"},
			`{"time":"2026-01-02T03:04:05.0000006Z","kind":"lease_bound","vni":100,"ip":"192.168.100.10","length":56,"mac":"02:00:00:00:00:99","client_id":"ff01","iaid":0,` +
				`"hostname":"web1","expires":"2026-01-02T03:04:05.0000006Z","port":"tap1","vtep":"10.9.0.2","detail":"x"}`,
		},
	} {
		got, err := json.Marshal(tc.e)
		if err != nil || string(got) != tc.want {
			t.Errorf("got %s, %v; want %s", got, err, tc.want)
		}
	}
}
