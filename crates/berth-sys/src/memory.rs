//! What memory a process keeps that it does not need: of the allocator, and of its own program.

/// Gives freed memory back to the kernel now.
pub fn trim() {
    // SAFETY: malloc_trim(3) has no preconditions.
    unsafe { libc::malloc_trim(0) };
}

/// Settings for a small process of one thread: one arena, and freed memory goes back early.
pub fn tune_small() {
    const TRIM_THRESHOLD: libc::c_int = 64 * 1024;
    const MAP_THRESHOLD: libc::c_int = 64 * 1024;
    // SAFETY: mallopt(3) takes integers; a setting it does not accept is left as it was.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAP_THRESHOLD);
        libc::mallopt(libc::M_TOP_PAD, 0);
    }
}

/// Gives back the pages of our own program that are only read: text and constants. They come again, from the page
/// cache, when they are needed. For a process that waits, and has run what it will not run again soon.
///
/// Left alone is every mapping that can be written, or that holds a page which differs from the file (what the
/// linker has filled in before it was protected). Does nothing where the kernel does not tell (smaps).
pub fn release_program() {
    let Ok(maps) = crate::fs::read_kernel_file(std::path::Path::new("/proc/self/smaps")) else {
        return;
    };
    let here = release_program as fn() as usize;
    for (start, length) in clean_program_mappings(&String::from_utf8_lossy(&maps), here) {
        // SAFETY: the range is a whole mapping of the program that runs, which stays where it is for as long as the
        // process lives, whatever other threads map and unmap meanwhile. It is not writable and, as the kernel has just
        // told, has no page of its own: each page that is dropped is read from the same place of the same file at the
        // next access, so nothing that any reference points to changes. No thread of ours ever makes a
        // mapping of the program writable, and a failure changes nothing.
        let _ = unsafe {
            rustix::mm::madvise(
                std::ptr::without_provenance_mut(start),
                length,
                rustix::mm::Advice::LinuxDontNeed,
            )
        };
    }
}

/// Start and length of mappings of the file that is mapped at `inside`, which are not writable and hold no page of
/// their own (proc(5), smaps).
fn clean_program_mappings(smaps: &str, inside: usize) -> Vec<(usize, usize)> {
    let Some(program) = smaps
        .lines()
        .filter_map(mapping)
        .find(|one| (one.start..one.end).contains(&inside))
        .map(|one| one.file)
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    // The present mapping, and whether its lines so far say that it is clean.
    let mut present: Option<(usize, usize)> = None;
    for line in smaps.lines() {
        if let Some(one) = mapping(line) {
            present = (one.clean && one.file == program).then(|| (one.start, one.end - one.start));
            continue;
        }
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Private_Dirty:" | "Shared_Dirty:" | "Anonymous:"), Some(size))
                if size != "0" =>
            {
                present = None;
            }
            // The last line of a mapping.
            (Some("VmFlags:"), _) => found.extend(present.take()),
            _ => {}
        }
    }
    found
}

/// The first line of a mapping.
struct Mapping<'a> {
    start: usize,
    end: usize,
    /// Of a file, and cannot be written.
    clean: bool,
    /// Device and inode.
    file: (&'a str, &'a str),
}

fn mapping(line: &str) -> Option<Mapping<'_>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let permissions = words.next()?;
    let file = (words.nth(1)?, words.next()?);
    let clean = matches!(permissions, "r-xp" | "r--p") && file.1 != "0" && end > start;
    Some(Mapping {
        start,
        end,
        clean,
        file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_mappings_of_the_program_are_given_back() {
        let smaps = "\
00200000-006e2000 r--p 00000000 00:41 10117179   /berth\n\
Private_Dirty:         0 kB\nAnonymous:             0 kB\nVmFlags: rd mr mw me\n\
006e2000-01600000 r-xp 004e1000 00:41 10117179   /berth\n\
Private_Dirty:         0 kB\nAnonymous:             0 kB\nVmFlags: rd ex mr mw me\n\
0166d000-01672000 r--p 01400000 00:41 10117179   /berth\n\
Private_Dirty:        20 kB\nAnonymous:            20 kB\nVmFlags: rd mr mw me ac\n\
01672000-01680000 rw-p 01405000 00:41 10117179   /berth\n\
Private_Dirty:         0 kB\nAnonymous:             0 kB\nVmFlags: rd wr mr mw me ac\n\
02000000-02001000 r--p 00000000 00:41 77             /another/file\n\
Private_Dirty:         0 kB\nAnonymous:             0 kB\nVmFlags: rd mr mw me\n\
7ffc0000-7ffc2000 r-xp 00000000 00:00 0          [vdso]\n\
Private_Dirty:         0 kB\nAnonymous:             0 kB\nVmFlags: rd ex mr mw me de\n";
        assert_eq!(
            clean_program_mappings(smaps, 0x70_0000),
            [(0x20_0000, 0x4e_2000), (0x6e_2000, 0xf1_e000)]
        );
        assert_eq!(clean_program_mappings(smaps, 0x7000_0000), []);
    }

    #[test]
    fn a_program_goes_on_after_it_was_given_back() {
        release_program();
        assert_eq!(format!("{}", 1.5_f64 + 1.0), "2.5");
    }
}
