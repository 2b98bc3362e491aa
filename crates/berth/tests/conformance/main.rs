//! The same scenarios on three pairs of client and engine: stock docker on dockerd, stock docker on
//! Berth, and `berth` on Berth. What dockerd does not pass says nothing about Berth, so each
//! scenario runs on the reference as well and is thereby known to be right.
//!
//! A scenario owns its daemon. Dropping that removes all containers and fails the test when a
//! mount, a control group, a process or a directory of them is left.

mod containers;
mod content;
mod copies;
mod exec;
mod files;
mod images;
mod library;
mod limits;
mod network;
mod networks;
mod policies;
mod processes;
mod queries;
mod registries;
mod runtimes;
mod security;
mod streams;
mod subject;
mod terminals;
mod volumes;

/// One test per scenario in each of the three modules. A scenario that is not named here is dead
/// code, which the lints refuse. One that uses words or flags of the stock client that came late names its version.
macro_rules! scenarios {
    ($($module:ident :: $name:ident $(since $version:literal)?),* $(,)?) => {
        mod docker_on_docker {
            $(#[test] fn $name() {
                $(if !crate::subject::stock_client_is($version) { return })?
                crate::$module::$name(&crate::subject::Subject::docker_on_docker());
            })*
        }
        mod docker_on_berth {
            $(#[test] fn $name() {
                $(if !crate::subject::stock_client_is($version) { return })?
                crate::$module::$name(&crate::subject::Subject::docker_on_berth());
            })*
        }
        mod berth_on_berth {
            $(#[test] fn $name() {
                crate::$module::$name(&crate::subject::Subject::berth_on_berth());
            })*
        }
    };
}

scenarios![
    containers::exit_codes_of_run,
    containers::life_of_a_container,
    containers::signals_and_grace,
    containers::names_are_unique,
    containers::removal_needs_force_while_running,
    containers::waiting_gives_the_exit_code,
    containers::what_the_process_sees,
    content::images_are_saved_and_loaded since 28,
    content::containers_become_images,
    content::file_systems_are_exported_and_imported,
    content::archives_come_from_addresses,
    content::archives_come_in_every_compression,
    copies::files_are_copied_into_containers since 28,
    copies::files_are_copied_out_of_containers since 28,
    copies::copies_go_through_mounts,
    exec::exec_runs_beside_the_first_process,
    exec::exec_failures_have_codes,
    files::bind_mounts,
    files::temporary_file_systems,
    files::read_only_root,
    files::changes_stay_with_the_container,
    files::every_container_can_be_told_from_a_host,
    images::images_are_listed_inspected_and_removed,
    images::image_configuration_is_the_default,
    images::prunes_take_what_is_unused_and_force_spares_containers,
    limits::limits_reach_the_control_groups,
    limits::out_of_memory_is_told,
    limits::update_changes_a_running_container,
    limits::resource_limits_of_the_process,
    network::none_and_host,
    networks::what_a_run_had_is_free_when_its_end_is_told,
    networks::networks_are_made_listed_and_removed since 28,
    networks::containers_join_and_leave since 28,
    networks::names_are_found,
    networks::ports_are_published,
    networks::mistakes_are_told since 28,
    policies::restart_on_failure_counts,
    policies::restart_always_ends_with_stop,
    policies::health_follows_the_command,
    processes::namespaces_can_be_shared,
    processes::init_reaps_orphans,
    processes::pause_freezes,
    queries::ps_filters_and_formats,
    queries::inspect_formats,
    queries::events_tell_the_story,
    queries::top_and_stats,
    registries::images_go_to_a_registry_and_come_back,
    registries::what_cannot_be_pulled_is_told,
    security::default_confinement,
    security::capabilities_follow_the_flags,
    security::users_and_groups,
    security::privileged_has_all,
    streams::output_is_split_and_complete,
    streams::standard_input_reaches_the_process,
    streams::logs_select_and_follow,
    streams::attach_sees_what_follows,
    terminals::shell_with_job_control,
    terminals::resize_reaches_the_process,
    terminals::detach_and_attach_again,
    terminals::signals_are_passed_on,
    volumes::volumes_are_made_listed_and_removed,
    volumes::volumes_outlive_containers,
    volumes::anonymous_volumes_go_with_their_container,
    volumes::empty_volumes_get_what_the_image_has,
    volumes::local_volumes_take_mount_options,
    volumes::local_volumes_show_block_devices,
    volumes::unused_volumes_are_pruned since 28,
    volumes::volume_events_are_told,
];
