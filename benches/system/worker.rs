//! Processes that measure on request, one line per request.
//!
//! In: a command that starts the process. Out: numbers, which are nanoseconds per call unless the request says otherwise.
//! A worker prints `ready`, perhaps with a word, when it can measure; then it answers each line on standard input with
//! one line on standard output. The worker ends when its standard input does. Must not know: what is measured.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A process that is killed when the guard is dropped.
pub struct Process(pub Child);

impl Process {
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that answers requests.
pub struct Worker {
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What followed `ready`.
    pub greeting: String,
    _process: Process,
}

impl Worker {
    /// Starts the process and waits until it is ready.
    pub fn start(command: &mut Command) -> Result<Worker, String> {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started
            .map_err(|error| format!("{} does not start: {error}", command.get_program().display()))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a worker has no pipes".into());
        };
        let answers = BufReader::new(answers);
        let mut worker = Worker { requests, answers, greeting: String::new(), _process: Process(child) };
        let line = worker.line()?;
        let greeting = line.strip_prefix("ready").ok_or_else(|| format!("it says: {line}"))?;
        worker.greeting = greeting.trim().into();
        Ok(worker)
    }

    /// Returns a worker that is another role of this program.
    pub fn role(words: &[&str]) -> Result<Worker, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        Worker::start(Command::new(program).arg("worker").args(words))
    }

    /// Sends a request, and returns the numbers of its answer.
    pub fn ask(&mut self, request: &str) -> Result<Vec<f64>, String> {
        writeln!(self.requests, "{request}").map_err(|error| format!("the worker has ended: {error}"))?;
        let line = self.line()?;
        let numbers = line.split_whitespace().map(|word| word.parse::<f64>().ok());
        numbers.collect::<Option<Vec<f64>>>().filter(|numbers| !numbers.is_empty()).ok_or(line)
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err("the worker has ended".into()),
            Ok(_) => Ok(line.trim().into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The worker's side: answers each request until standard input ends. A request is a word and some numbers.
pub fn serve(greeting: &str, mut answer: impl FnMut(&str, &[usize]) -> Result<Vec<f64>, String>) {
    println!("ready {greeting}");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let mut words = line.split_whitespace();
        let word = words.next().unwrap();
        let numbers: Vec<usize> = words.map(|number| number.parse().unwrap()).collect();
        match answer(word, &numbers) {
            Ok(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(|number| format!("{number:.1}")).collect();
                println!("{}", numbers.join(" "));
            }
            Err(error) => println!("{}", error.replace('\n', "; ")),
        }
    }
}
