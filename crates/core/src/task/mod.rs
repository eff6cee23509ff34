//! Tasks: their status machine, RunTask, StartTask, StopTask, those that wait, what agents report, DescribeTasks and ListTasks.

pub(crate) mod describe;
pub(crate) mod fit;
mod launch;
pub(crate) mod listing;
pub(crate) mod report;
pub(crate) mod retention;
pub(crate) mod run;
pub(crate) mod start;
pub mod status;
pub(crate) mod stop;
pub mod waiting;

#[cfg(test)]
mod tests;
