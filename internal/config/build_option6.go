package config

// serverOwns6 tells whose an option of DHCPv6 is that the exchange itself sets;
// it is empty for all others.
func serverOwns6(code int64) string {
	switch code {
	case 1, 6, 8, 15, 16, 43, 45, 61, 62, 65, 79:
		return "the client's"
	case 2, 7, 12, 13, 14, 19, 20, 39, 44, 47, 48, 66, 67:
		return "the server's own"
	case 3, 4, 5, 25, 26:
		return "what a client is given by ranges, prefixes and hosts"
	case 9, 18, 37, 38:
		return "the relay's"
	case 11:
		return "authentication, which the server does not do"
	}
	return ""
}

// ownKey6 is the key that stands for an option beside `options`, or "".
func ownKey6(code int64) string {
	switch code {
	case 23:
		return "dns"
	case 24:
		return "search"
	}
	return ""
}

// layoutOf6 knows the options whose length is bound (RFC 3319, 3898, 4075, 4280,
// 8415).
func layoutOf6(code int64) layout {
	switch code {
	case 22, 27, 28, 31, 34, 40:
		return layout{unit: 16, many: true}
	case 32, 82, 83:
		return layout{unit: 4, number: true}
	}
	return layout{}
}

func (s *source) options6(p path, raw []rawOption6) []Option6 {
	var out []Option6
	first := registry[uint16]{}
	for i := range raw {
		r, at := &raw[i], p.index(i)
		s.missing(at.key("code"), "an option needs its number")
		code := s.integer(at.key("code"), r.Code, 1, 65535, 0)
		v := optionText{text: r.Text, hex: r.Hex, number: r.Number}
		if r.IP != nil {
			v.ip = texts(*r.IP)
		}
		var o Option6
		o.Data, o.Form = s.optionValue(at, v, code, layoutOf6(code), true)
		if code == 0 {
			continue
		}
		if why := serverOwns6(code); why != "" {
			s.fault(at.key("code"), "option %d is not for configuration: it is %s", code, why)
			continue
		}
		if key := ownKey6(code); key != "" {
			s.fault(at.key("code"), "option %d has a key of its own: %s", code, key)
			continue
		}
		o.Code = uint16(code)
		if other, taken := first.claim(o.Code, at.key("code")); taken {
			s.fault(at.key("code"), "option %d is listed twice, also as %s", code, s.other(other))
			continue
		}
		out = append(out, o)
	}
	return out
}
