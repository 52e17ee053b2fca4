package Sys::Virt::Stream::Command::Retry;

# A transfer whose connection breaks is taken up again.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Exporter 'import';
use List::Util qw(min);
use Sys::Virt::Stream::Command::Failure qw(reason);
use Sys::Virt::Stream::Command::Objects qw(is_broken);

our @EXPORT_OK = qw(persistently keeps);

my $LONGEST = 30;    # seconds between two tries

# Whether a transfer that fails keeps what it has done, so that it can be continued.
sub keeps {
    my ($run) = @_;
    return $run->option('continue') || defined $run->option('retry');
}

# Calls $code, which is told whether it is to go on where another call, or another program, has
# stopped.
sub persistently {
    my ($run, $code) = @_;
    my $left = $run->whole('retry') // 0;
    my $again = $run->option('continue');
    for (my $pause = 1; ; $pause = min(2 * $pause, $LONGEST)) {
        my $result;
        return $result if eval { $result = $code->($again); 1 };
        my $error = $@;
        die $error if $run->interrupted || !$left-- || !is_broken();
        $run->note(reason($error) . "; trying again in $pause s");
        sleep $pause;
        $again = 1;
    }
}

1;
