//! The agent dies, and the next one finds its way.

use std::time::Duration;

use deployment_agent::strategy::Strategy;
use testkit::requirement::{Thing, is_met};

use crate::{
    apps::spec,
    bench::{Bench, get, open, processes_with},
};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_clean_stop_the_app_comes_back_on_its_port() {
    if !is_met(Thing::Python) {
        return;
    }
    let bench = Bench::new().await;
    bench.deploy(spec("1", ""), Strategy::BlueGreen).await;
    let address = bench.address().await;
    let owner = std::fs::read_to_string(bench.folder.path().join("owner")).unwrap();
    let Bench { folder, sites, .. } = bench;
    sites.shutdown(Duration::from_secs(30)).await;
    assert_eq!(processes_with(&owner), Vec::<i32>::new());
    drop(sites);
    let sites = open(folder.path()).await;
    sites.settled().await;
    assert_eq!(get(address, "/").await, (200, "1".to_owned()));
    sites.shutdown(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_never_share_a_data_folder() {
    let bench = Bench::new().await;
    let second = deployment_agent::sites::Claim::take(bench.folder.path());
    assert!(second.unwrap_err().to_string().contains("another agent"));
    bench.stop().await;
}
