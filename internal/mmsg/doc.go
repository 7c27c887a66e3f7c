// Package mmsg sends and receives many messages in one system call, without
// allocating anything. The calls never block, so that the scheduler need not be
// told of them, which would cost as much as a small packet does.
package mmsg
