package guest

import (
	"bytes"
	"encoding/binary"
)

// etherShout is Local Experimental EtherType 1 of IEEE Std 802: no protocol
// stack listens to it.
const etherShout = 0x88b5

// inspect counts one frame for whoever owns a tag.
func (s *Seen) inspect(frame []byte, own Tag) {
	s.Frames++
	marks := 0
	for rest := frame; ; {
		i := bytes.Index(rest, []byte(tagPrefix))
		if i < 0 {
			break
		}
		rest = rest[i:]
		if tag, ok := parseTag(rest); ok {
			if tag != own { // one is enough, whatever else the frame says
				if s.Foreign == 0 {
					s.Culprit = tag
				}
				s.Foreign++
				return
			}
			marks++
		}
		rest = rest[len(tagPrefix):]
	}
	if marks == 0 {
		s.Unmarked++
		return
	}
	s.Own++
	if len(frame) >= etherLen && binary.BigEndian.Uint16(frame[12:]) == etherShout {
		s.Broadcast++
	}
}
