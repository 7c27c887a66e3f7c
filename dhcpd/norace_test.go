//go:build !race

package dhcpd_test

const raceDetector = false
