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

func (s *source) options6(p path, raw []rawOption6) []Option {
	return options(s, p, raw, optionSpace{v6, 65535, serverOwns6, ownKey6, layoutOf6})
}
