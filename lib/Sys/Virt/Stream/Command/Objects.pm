package Sys::Virt::Stream::Command::Objects;

# libvirt's objects, by what the user calls them.

use strict;
use warnings;

our $VERSION = '0.2.0';

use Exporter 'import';
use Sys::Virt::Stream::Command::Failure qw(trying code_of);

our @EXPORT_OK = qw(connection is_broken domain volume pool);

my $UUID = qr/\A[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\z/i;

my @open;    # the connections of this try
my $lost;    # what was connected before can't be any more

sub connection {
    my ($uri) = @_;
    my $to = $uri // '';
    $lost = @open > 0 || $lost;
    my $conn = trying('cannot connect to ' . (length $to ? $to : 'libvirt'),
        sub { Sys::Virt->new(uri => length $to ? $to : undef, auth => 1) });
    $lost = 0;
    push @open, $conn;
    return $conn;
}

# Whether a try has failed because a connection broke. The next one makes its own.
sub is_broken {
    my $broken = $lost || grep { !eval { $_->is_alive } } @open;
    $lost = $broken;
    @open = ();
    return $broken;
}

# VIR_ERR_NO_DOMAIN, NO_STORAGE_POOL and NO_STORAGE_VOL.
my %NONE = map { $_ => 1 } 42, 49, 50;

# The object that a method finds by $name; undef where there is none.
sub _found {
    my ($in, $method, $name) = @_;
    my $found = eval { $in->$method($name) };
    return $found if $found || $NONE{ code_of($@) };
    my $error = $@;
    return trying("cannot find '$name'", sub { die $error });
}

# By its name, its number or its UUID.
sub domain {
    my ($conn, $name) = @_;
    my $found = _found($conn, get_domain_by_name => $name)
        || $name =~ /\A[0-9]{1,9}\z/ && _found($conn, get_domain_by_id => $name)
        || $name =~ $UUID && _found($conn, get_domain_by_uuid => $name);
    return $found if $found;
    die "no domain '$name'; " . _listed(map { $_->get_name } $conn->list_all_domains) . "\n";
}

# By its name or its UUID.
sub pool {
    my ($conn, $name) = @_;
    my $found = _found($conn, get_storage_pool_by_name => $name)
        || $name =~ $UUID && _found($conn, get_storage_pool_by_uuid => $name);
    return $found if $found;
    die "no storage pool '$name'; " . _listed(map { $_->get_name } $conn->list_all_storage_pools) . "\n";
}

# A path, POOL/NAME or a key, or a name in a pool that is given. With `missing` a volume that is not
# there is no failure: what comes back is the pool and the name that it may get.
sub volume {
    my ($conn, $name, %with) = @_;
    my $of = $with{pool};
    my $called = $name;
    if (!defined $of) {
        my $found = _found($conn, get_storage_volume_by_path => $name) || _found($conn, get_storage_volume_by_key => $name);
        return $found if $found;
        die "no volume '$name': what is new in a pool is seen after virsh pool-refresh POOL\n" if $name =~ m{\A/};
        ($of, $called) = $name =~ m{\A([^/]+)/(.+)\z}s
            or die "a volume is a path, POOL/NAME or a key, or a name with --pool, not '$name'\n";
    }
    my $pool = pool($conn, $of);
    my $found = _found($pool, get_volume_by_name => $called);
    return $found if $found;
    return (undef, $pool, $called) if $with{missing};
    my @all = trying("pool '$of'", sub { map { $_->get_name } $pool->list_all_volumes });
    die "no volume '$called' in pool '$of'; " . _listed(@all) . "; what is new there is seen after virsh pool-refresh $of\n";
}

sub _listed {
    my @names = sort @_;
    my $more = @names > 10 ? @names - 10 : 0;
    return !@names ? 'there is none' : 'there ' . (@names > 1 ? 'are ' : 'is ')
        . join(', ', @names[0 .. $#names - $more]) . ($more ? " and $more more" : '');
}

1;
