package control

// Bind is what Listen does before it sets the mode.
var Bind = bind
