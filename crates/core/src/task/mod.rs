//! Tasks: their status machine, RunTask, StopTask, what agents report, DescribeTasks and ListTasks.

pub(crate) mod describe;
pub(crate) mod report;
pub(crate) mod retention;
pub(crate) mod run;
pub mod status;
pub(crate) mod stop;
