// Package proc runs the programs that are measured, and those that measure, in
// network namespaces, and tells what they cost.
package proc
