package dhcpdtest

import (
	"sync"
	"time"
)

// Clock is a wall clock and a running clock that move only when told, for
// dhcpd.Config's Clock and Elapsed. It begins at the start of the year 2026.
type Clock struct {
	mu      sync.Mutex
	wall    time.Time
	elapsed time.Duration
}

// NewClock makes a clock.
func NewClock() *Clock {
	return &Clock{wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// Now is the wall clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

// Elapsed is how long the running clock has run.
func (c *Clock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.elapsed
}

// Advance lets time pass on both clocks.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(d)
	c.elapsed += d
}

// Step sets the wall clock on by d, back if d is negative; no time passes.
func (c *Clock) Step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(d)
}
