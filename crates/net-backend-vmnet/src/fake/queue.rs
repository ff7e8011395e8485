//! A serial queue: a thread that runs what it is given, one after the other.

use std::sync::mpsc::{Sender, channel};

type Job = Box<dyn FnOnce() + Send>;

pub(crate) struct Queue {
    jobs: Sender<Job>,
}

impl Queue {
    pub(crate) fn new() -> Self {
        let (jobs, waiting) = channel::<Job>();
        // It ends when the last sender is gone.
        std::thread::spawn(move || waiting.into_iter().for_each(|job| job()));
        Self { jobs }
    }

    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.send(Box::new(job)).expect("the queue's thread");
    }

    /// Waits until everything that was given before has been run.
    pub(crate) fn settle(&self) {
        let (done, wait) = channel();
        self.run(move || done.send(()).expect("the test waits"));
        wait.recv().expect("the queue's thread");
    }
}
