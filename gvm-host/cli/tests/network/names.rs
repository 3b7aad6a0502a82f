//! What the name of a node means in a network.

use gvm_host::Code;
use gvm_host::gpmd::link::Link;

use crate::bed::{Device, discovers, run_local};

async fn found(link: &Link, name: &str) -> Result<String, Code> {
    let found = link.look_up(&name.parse().unwrap()).await;
    found.map(|node| node.name.to_string()).map_err(|error| error.code())
}

#[test]
fn a_name_means_the_own_node_then_the_only_one() {
    let laptop = Device::new("laptop");
    let (pi, tv) = (Device::joined("pi", &laptop), Device::joined("tv", &laptop));
    run_local(async {
        let here = laptop.node("math", &[]).await.unwrap();
        let _nodes = [
            pi.node("math", &[]).await.unwrap(),
            pi.node("hall", &[]).await.unwrap(),
            pi.node("study", &[]).await.unwrap(),
            tv.node("hall", &[]).await.unwrap(),
        ];
        discovers(&here, &["math", "hall@pi", "hall@tv", "math@pi", "study@pi"]).await;
        assert_eq!(found(&here, "math").await.unwrap(), "math");
        assert_eq!(found(&here, "math@laptop").await.unwrap(), "math");
        assert_eq!(found(&here, "math@pi").await.unwrap(), "math@pi");
        assert_eq!(found(&here, "study").await.unwrap(), "study@pi");
        assert_eq!(found(&here, "hall").await.unwrap_err(), Code::NodeNameAmbiguous);
        assert_eq!(found(&here, "hall@tv").await.unwrap(), "hall@tv");
        assert_eq!(found(&here, "study@tv").await.unwrap_err(), Code::NodeNotFound);
        assert_eq!(found(&here, "study@car").await.unwrap_err(), Code::DeviceNotFound);
        let near = here.look_up(&"stud".parse().unwrap()).await.unwrap_err();
        assert!(near.message().contains("`study@pi`"), "{near}");
        let several = here.look_up(&"hall".parse().unwrap()).await.unwrap_err();
        assert!(several.message().contains("`hall@pi` and `hall@tv`"), "{several}");
    });
}
