package Company;

# What the modules of xt/company share.

use strict;
use warnings;

# A daemon's guard is a program of the tests' own, and runs outside of all this.
sub is_guard { return $0 =~ m{StreamTest/Daemon\.pm\z} }

# Runs the program in another's frames instead of at the top, and ends.
sub run_program {
    my ($call) = @_;
    my $file = $0;
    $call->(sub {
        package main;
        -r $file or die "$file: $!\n";
        do($file =~ m{^/} ? $file : "./$file");
        die $@ if $@;
        return;
    });
    exit 0;
}

1;
