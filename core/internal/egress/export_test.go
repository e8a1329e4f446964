package egress

// WhyBlocked is for tests of addresses that must not be dialled for real.
var WhyBlocked = whyBlocked
