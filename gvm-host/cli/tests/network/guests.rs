//! What a guest of the network may see and do.

use std::time::Duration;

use gvm_host::Code;

use crate::bed::{Device, discovered, discovers, run_local, wait};

#[test]
fn a_guest_sees_what_names_it_and_gives_no_commands() {
    let laptop = Device::new("laptop");
    let pi = Device::joined("pi", &laptop);
    let line = laptop.json(&["invite", "--role=guest", "--name=anna"])["line"].as_str().unwrap().to_owned();
    let anna = Device::new("tablet");
    anna.join(&line);
    wait(Duration::from_secs(5), || anna.is_up("pi"));
    run_local(async {
        let _open = laptop.node("open", &["*@anna"]).await.unwrap();
        let _named = pi.node("named", &["study@anna"]).await.unwrap();
        let hidden = laptop.node("hidden", &[]).await.unwrap();
        let _other = pi.node("other", &["*@bob", "anna"]).await.unwrap();
        let guest = anna.node("guest", &[]).await.unwrap();
        discovers(&hidden, &["hidden", "open", "guest@anna", "named@pi", "other@pi"]).await;
        discovers(&guest, &["guest", "named@pi", "open@laptop"]).await;
        let refused = guest.look_up(&"hidden@laptop".parse().unwrap()).await.unwrap_err();
        let unknown = guest.look_up(&"hiddem@laptop".parse().unwrap()).await.unwrap_err();
        assert_eq!((refused.code(), unknown.code()), (Code::NodeNotFound, Code::NodeNotFound));
        assert!(!refused.message().contains("did you mean `hidden"), "{refused}");
        assert_eq!(discovered(&guest).await.len(), 3);
    });
    anna.fails(&["--on", "laptop", "status"], Code::NotPermitted);
    laptop.fails(&["--on", "anna", "status"], Code::NotPermitted);
    anna.fails(&["invite"], Code::NotPermitted);
    anna.fails(&["remove", "pi"], Code::NotPermitted);
    assert_eq!(laptop.names(), ["anna", "laptop", "pi"]);
    // The index of modules stays among members.
    let module = laptop.file("math.wat", "(module (func (export \"add\")))");
    laptop.ok(&["wasm", "upload", "--name=math", "--version=1.0.0", &format!("--file={module}")]);
    wait(Duration::from_secs(2), || pi.sees("laptop").unwrap().modules == 1);
    assert_eq!(anna.sees("laptop").unwrap().modules, 0);
    // A guest may leave.
    anna.ok(&["leave"]);
    wait(Duration::from_secs(2), || laptop.names() == ["laptop", "pi"]);
}
