package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/uvtep/uvtep/encap"
)

const (
	streamIdle  = 15 * time.Second // after which a comment shows that the stream is alive
	streamWrite = 30 * time.Second // for a reader to take what it is sent
)

type inEvents struct {
	VNI   encap.VNI `query:"vni" minimum:"1" maximum:"16777215" doc:"this segment only"`
	Kinds []string  `query:"kind,explode" doc:"these kinds only, or those that begin so, such as lease; may be repeated"`
}

// registerEvents adds the stream of events (text/event-stream).
func registerEvents(api huma.API, r Reader) {
	op := operation(http.MethodGet, "/events", "events", "What happens, as server-sent events; each is one line of JSON")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "a stream that ends with the daemon",
		Content: map[string]*huma.MediaType{"text/event-stream": {
			Schema: api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Event](), true, "Event"),
		}},
	}}
	huma.Register(api, op, func(_ context.Context, in *inEvents) (*huma.StreamResponse, error) {
		sub, err := r.Subscribe(EventFilter{VNI: in.VNI, Kinds: in.Kinds})
		if err != nil {
			return nil, huma.NewError(http.StatusServiceUnavailable, err.Error())
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			defer sub.Close()
			_, w := humago.Unwrap(c)
			stream(c.Context(), w, sub)
		}}, nil
	})
}

// stream writes events until the reader goes, or stops to read, or there are no
// more.
func stream(ctx context.Context, w http.ResponseWriter, sub *Subscription) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	conn := http.NewResponseController(w)
	// The server's deadline for the request is not the stream's. Where one cannot
	// be set there is none.
	_ = conn.SetReadDeadline(time.Time{})
	send := func(b []byte) error {
		_ = conn.SetWriteDeadline(time.Now().Add(streamWrite))
		if _, err := w.Write(b); err != nil {
			return err
		}
		return conn.Flush()
	}
	out := []byte(": events of uvtep\n\n")
	for send(out) == nil {
		idle, cancel := context.WithTimeout(ctx, streamIdle)
		events, err := sub.Next(idle)
		cancel()
		out = out[:0]
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			out = append(out, ":\n\n"...)
		case err != nil:
			return
		}
		for i := range events {
			line, err := json.Marshal(&events[i])
			if err != nil {
				return
			}
			out = append(append(append(out, "data: "...), line...), "\n\n"...)
		}
	}
}

// Events calls each with every event, as one line of JSON, until ctx is done,
// each returns an error, or the daemon stops. It returns nil only where ctx is
// done. Once it hears of the stream's beginning, it calls begun, unless nil.
func (c *Client) Events(ctx context.Context, f EventFilter, begun func(), each func(line []byte) error) error {
	query := url.Values{}
	if f.VNI != 0 {
		query.Set("vni", f.VNI.String())
	}
	for _, k := range f.Kinds {
		query.Add("kind", k)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://uvtep"+prefix+"/events?"+query.Encode(), nil)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	endless := c.http
	endless.Timeout = 0
	resp, err := endless.Do(req)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return c.unreachable(err)
		}
		return c.refused(resp, data)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		line, isEvent := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		switch {
		case isEvent:
			if err := each(line); err != nil {
				return err
			}
		case begun != nil:
			begun()
			begun = nil
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("uvtep on %s has stopped", c.socket)
}
