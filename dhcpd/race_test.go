//go:build race

package dhcpd_test

// raceDetector: pools drop what they hold at random under it.
const raceDetector = true
