package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// raiseUvtep runs the daemon on each host, with a configuration as people write
// them.
func (s *system) raiseUvtep(ctx context.Context, o Options, offload string) error {
	s.Version = o.Version
	if err := s.numberHosts(); err != nil {
		return err
	}
	for i := range s.hosts {
		dir := filepath.Join(s.world.dir, fmt.Sprintf("%s%d", s.Name, i+1))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		file := filepath.Join(dir, "uvtep.yaml")
		if err := os.WriteFile(file, s.uvtepConfig(i, dir, offload), 0o600); err != nil {
			return err
		}
		p, err := s.spawn(i, nil, o.Binary, "run", "-c", file)
		if err != nil {
			return err
		}
		if err := p.Await(ctx, func() bool { return p.Says("ready") }); err != nil {
			return err
		}
	}
	return nil
}

func (s *system) uvtepConfig(i int, dir, offload string) []byte {
	return fmt.Appendf(nil, `underlay: {local: %s, port: %d, device: %s}
offload: %s
state: %q
api: {socket: %q, http: ""}
segments:
  - vni: %d
    peers: [%s]
    ports: [{tap: bench0, netns: %s, rename: %s}]
`, hostAddr(i), vxlanPort, underlayIf, offload, filepath.Join(dir, "state"), filepath.Join(dir, "uvtep.sock"),
		vni, hostAddr(1-i), s.guests[i], guestIf)
}
