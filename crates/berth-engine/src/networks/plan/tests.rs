use super::*;
use crate::networks::request::SubnetRequest;

fn id(n: u8) -> NetworkId {
    NetworkId::from_random([n; 32])
}

fn request(name: &str) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: name.to_owned(),
        ..NetworkCreateRequest::default()
    }
}

fn with_subnet(name: &str, subnet: &str) -> NetworkCreateRequest {
    let mut request = request(name);
    request.ipam.subnets.push(SubnetRequest {
        subnet: subnet.to_owned(),
        ..SubnetRequest::default()
    });
    request
}

fn make(
    request: &NetworkCreateRequest,
    networks: &[NetworkRecord],
    host: &[Taken],
) -> Result<NetworkRecord, EngineError> {
    let settings = NetworkSettings::default();
    let pools = pools(&settings, berth_net::address::unique_local_pool(b"test"));
    let n = u8::try_from(networks.len() + 1).unwrap();
    network(
        request,
        id(n),
        Timestamp::ZERO,
        &Situation {
            networks: networks.iter().collect(),
            host,
            pools: &pools,
            settings: &settings,
        },
    )
}

fn text(result: Result<NetworkRecord, EngineError>) -> String {
    match result {
        Ok(record) => panic!("{} was made", record.name),
        Err(error) => format!("{:?}: {error}", error.kind()),
    }
}

#[test]
fn a_plain_request_gets_a_small_subnet_beside_all_others() {
    let first = make(&request("one"), &[], &[]).unwrap();
    assert_eq!(first.subnets[0].subnet.to_string(), "172.18.0.0/24");
    assert_eq!(
        first.subnets[0].gateway,
        Some("172.18.0.1".parse().unwrap())
    );
    let route = Taken {
        prefix: "172.18.1.0/24".parse().unwrap(),
        holder: "the route of tun0".to_owned(),
    };
    let second = make(&request("two"), &[first], &[route]).unwrap();
    assert_eq!(second.subnets[0].subnet.to_string(), "172.18.2.0/24");
    assert!(!second.subnets[0].asked);
}

#[test]
fn a_dual_stack_network_has_a_subnet_of_each_family() {
    let mut both = request("both");
    both.enable_ipv6 = Some(true);
    let record = make(&both, &[], &[]).unwrap();
    assert_eq!(record.subnets.len(), 2);
    assert!(record.subnets[1].subnet.to_string().starts_with("fd"));
    both.enable_ipv4 = Some(false);
    let record = make(&both, &[], &[]).unwrap();
    assert_eq!(record.subnets.len(), 1);
    both.enable_ipv6 = Some(false);
    assert_eq!(
        text(make(&both, &[], &[])),
        "InvalidArgument: IPv4 or IPv6 must be enabled"
    );
}

#[test]
fn what_clashes_is_refused_with_dockers_words() {
    let first = make(&with_subnet("one", "10.1.0.0/16"), &[], &[]).unwrap();
    let mut named = request("named");
    named.options.insert(
        super::super::options::OPTION_BRIDGE_NAME.to_owned(),
        "br0".to_owned(),
    );
    let bridge = make(&named, std::slice::from_ref(&first), &[]).unwrap();
    let all = [first, bridge];
    assert_eq!(
        text(make(&request("one"), &all, &[])),
        "Conflict: network with name one already exists"
    );
    assert_eq!(
        text(make(&with_subnet("two", "10.1.2.0/24"), &all, &[])),
        "Forbidden: invalid pool request: Pool overlaps with other one on this address space"
    );
    named.name = "other".to_owned();
    assert!(text(make(&named, &all, &[])).ends_with("networks have same bridge name"));
    for name in ["bridge", "host", "none"] {
        assert_eq!(
            text(make(&request(name), &all, &[])),
            format!("Forbidden: operation is not permitted on predefined {name} network ")
        );
    }
}

#[test]
fn addresses_that_make_no_sense_are_all_named() {
    let mut wrong = with_subnet("x", "10.1.2.0/16");
    wrong.ipam.subnets[0].ip_range = "10.9.0.0/24".to_owned();
    wrong.ipam.subnets[0].gateway = "192.168.0.1".to_owned();
    wrong.ipam.subnets[0]
        .auxiliary
        .insert("router".to_owned(), "fd00::1".to_owned());
    let text = text(make(&wrong, &[], &[]));
    for part in [
        "invalid subnet 10.1.2.0/16: it should be 10.1.0.0/16",
        "invalid ip-range 10.9.0.0/24: parent subnet 10.1.2.0/16 doesn't contain ip-range",
        "invalid gateway 192.168.0.1: parent subnet 10.1.2.0/16 doesn't contain this address",
        "invalid auxiliary address router: parent subnet is an IPv4 block",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn names_and_drivers_are_checked() {
    for name in ["", " ", "a/b", "../x", "-x", &"x".repeat(300)] {
        assert!(
            make(&request(name), &[], &[]).is_err(),
            "{name:?} was taken"
        );
    }
    for (driver, kind) in [
        ("overlay", "Forbidden"),
        ("nosuch", "NotFound"),
        ("host", "Forbidden"),
    ] {
        let mut asked = request("x");
        asked.driver = driver.to_owned();
        assert!(text(make(&asked, &[], &[])).starts_with(kind));
    }
}

#[test]
fn a_configuration_lends_its_settings() {
    let mut lender = with_subnet("settings", "10.7.0.0/24");
    lender.config_only = true;
    lender.driver = "macvlan".to_owned();
    let lender = make(&lender, &[], &[]).unwrap();
    let mut borrower = request("borrower");
    borrower.config_from = "settings".to_owned();
    let record = make(&borrower, std::slice::from_ref(&lender), &[]).unwrap();
    assert_eq!(record.subnets[0].subnet.to_string(), "10.7.0.0/24");
    borrower.config_from = "nosuch".to_owned();
    assert!(text(make(&borrower, &[lender], &[])).starts_with("NotFound"));
}

#[test]
fn the_gateway_comes_from_the_range() {
    let mut asked = with_subnet("x", "10.0.0.0/24");
    asked.ipam.subnets[0].ip_range = "10.0.0.128/25".to_owned();
    let record = make(&asked, &[], &[]).unwrap();
    assert_eq!(
        record.subnets[0].gateway,
        Some("10.0.0.128".parse().unwrap())
    );
    asked.driver = "macvlan".to_owned();
    let record = make(&asked, &[], &[]).unwrap();
    assert_eq!(record.subnets[0].gateway, None);
}
