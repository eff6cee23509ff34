//! Tasks: their status machine, RunTask, StartTask, StopTask, what agents report, DescribeTasks and ListTasks.

pub(crate) mod describe;
mod launch;
pub(crate) mod listing;
pub(crate) mod report;
pub(crate) mod retention;
pub(crate) mod run;
pub(crate) mod start;
pub mod status;
pub(crate) mod stop;

#[cfg(test)]
mod tests;
