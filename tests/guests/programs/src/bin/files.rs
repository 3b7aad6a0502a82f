//! In: a command and paths below a granted folder. Out: the result of the command. On an error, it prints the
//! kind of error and exits with status 1.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Result, Seek, SeekFrom, Write};
use std::time::SystemTime;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Err(error) = run(&words) {
        println!("error: {:?}", error.kind());
        std::process::exit(1);
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["read", path] => print!("{}", fs::read_to_string(path)?),
        ["write", path, text] => fs::write(path, text)?,
        ["list", path] => {
            let mut names: Vec<_> = fs::read_dir(path)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<Result<_>>()?;
            names.sort();
            names.iter().for_each(|name| println!("{}", name.to_string_lossy()));
        }
        ["rename", from, to] => fs::rename(from, to)?,
        ["unlink", path] => fs::remove_file(path)?,
        ["size", path] => println!("{}", fs::metadata(path)?.len()),
        ["create", path] => drop(File::create_new(path)?),
        ["append", path, text] => OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())?,
        ["truncate", path] => OpenOptions::new().write(true).truncate(true).open(path).map(drop)?,
        // The file is opened for reading, so only the change itself can fail for lack of rights.
        ["resize", path] => File::open(path)?.set_len(1)?,
        ["touch", path] => File::open(path)?.set_modified(SystemTime::UNIX_EPOCH)?,
        ["mkdir", path] => fs::create_dir(path)?,
        ["rmdir", path] => fs::remove_dir(path)?,
        ["link", from, to] => fs::hard_link(from, to)?,
        #[allow(deprecated, reason = "the one stable way to make a symbolic link on every WASI")]
        ["symlink", from, to] => fs::soft_link(from, to)?,
        ["copy", from, to] => drop(fs::copy(from, to)?),
        // Each file is removed as soon as it is listed.
        ["clear", folder] => {
            for entry in fs::read_dir(folder)? {
                fs::remove_file(entry?.path())?;
            }
            println!("{} left", fs::read_dir(folder)?.count());
        }
        ["count", folder] => println!("{}", fs::read_dir(folder)?.count()),
        ["tour", folder] => tour(folder)?,
        other => panic!("no such command: {other:?}"),
    }
    Ok(())
}

/// Does the common file operations in one folder.
fn tour(folder: &str) -> Result<()> {
    let inner = format!("{folder}/inner");
    fs::create_dir(&inner)?;
    let (first, second) = (format!("{inner}/first"), format!("{inner}/second"));
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&first)?;
    file.write_all(b"0123456789")?;
    file.seek(SeekFrom::Start(4))?;
    file.write_all(b"four")?;
    file.seek(SeekFrom::End(-3))?;
    let mut tail = String::new();
    file.read_to_string(&mut tail)?;
    println!("tail {tail}");
    file.set_len(6)?;
    file.sync_all()?;
    println!("size {}", file.metadata()?.len());
    drop(file);
    fs::rename(&first, &second)?;
    println!("first {}", File::open(&first).is_err());
    println!("second {}", fs::read_to_string(&second)?);
    println!("names {}", fs::read_dir(&inner)?.count());
    fs::remove_file(&second)?;
    fs::remove_dir(&inner)?;
    println!("gone {}", fs::metadata(&inner).is_err());
    Ok(())
}
