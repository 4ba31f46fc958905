mod conditions;
mod controller;
mod firings;
mod turns;
